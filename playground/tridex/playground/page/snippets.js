// The search as programs: tabs, as ARIA has them, moved through by the arrow keys.

import { byId, element } from "./elements.js";

let chosen = 0;

export function drawSnippets(snippets) {
  const tabs = snippets.map((snippet, i) => element("button", {
    type: "button", role: "tab", id: `tab-${i}`, "aria-controls": "program", onclick: () => choose(i),
  }, snippet.name));
  const list = element("div", { role: "tablist", "aria-label": "Framework" }, tabs);
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    choose((chosen + step + tabs.length) % tabs.length);
    tabs[chosen].focus();
  });
  const code = element("code", {});
  const install = element("code", {});
  const copy = element("button", { type: "button", className: "quiet" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(snippets[chosen].code);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  function choose(place) {
    chosen = place;
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === place));
      tab.tabIndex = i === place ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `tab-${place}`);
    install.textContent = snippets[place].install;
    code.textContent = snippets[place].code;
  }
  const panel = element("div", { role: "tabpanel", id: "program" },
    element("p", { className: "install" }, install, copy),
    element("pre", { tabIndex: 0 }, code));
  byId("snippets").replaceChildren(list, panel);
  choose(chosen);
}
