// Filters: check boxes for values, two ends for ranges. What is chosen becomes the conditions of a search.

import { byId, count, element } from "./elements.js";

const IN = { "list[str]": "contains_any" };

export function drawFilters(controls, changed) {
  const form = byId("controls");
  if (!controls.length) {
    form.replaceChildren(element("p", { className: "soft" }, "No field tells these documents apart."));
    return;
  }
  form.replaceChildren(
    ...controls.map((control) => control.range ? range(control) : values(control)),
    element("button", { type: "reset", className: "quiet" }, "Clear all"),
  );
  let waiting;
  const soon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(changed, 250);
    const chosen = conditions().length;
    byId("active").textContent = chosen ? `(${chosen})` : "";
  };
  form.addEventListener("input", soon);
  form.addEventListener("reset", () => setTimeout(soon));
  form.addEventListener("submit", (event) => event.preventDefault());
}

export function conditions() {
  const chosen = [];
  for (const group of byId("controls").querySelectorAll("fieldset")) {
    const { field, type } = group.dataset;
    const ticked = [...group.querySelectorAll("input:checked")].map((box) => JSON.parse(box.value));
    if (ticked.length) chosen.push({ field, operator: IN[type] ?? "in", value: ticked });
    for (const end of group.querySelectorAll("input[data-operator]")) {
      if (end.value !== "" && end.validity.valid) chosen.push({ field, operator: end.dataset.operator, value: given(end, type) });
    }
  }
  return chosen;
}

export function clearFilters() {
  byId("controls").reset();
}

function values({ field, type, values, more }) {
  return fieldset(field, type, [
    ...values.map(({ value, count: documents }) =>
      element("label", {},
        element("input", { type: "checkbox", value: JSON.stringify(value) }),
        element("bdi", {}, String(value)),
        element("span", { className: "count" }, count(documents)))),
    more ? element("p", { className: "soft" }, "and rarer ones") : null,
  ]);
}

function range({ field, type, range: [least, most] }) {
  const kind = type === "datetime" ? "date" : "number";
  const [min, max] = kind === "date" ? [least.slice(0, 10), most.slice(0, 10)] : [least, most];
  const end = (label, operator, shown) => element("input", {
    type: kind, "aria-label": `${field}: ${label}`, placeholder: shown, title: `${label}: ${shown}`,
    step: type === "float" ? "any" : "1", "data-operator": operator,
    ...(kind === "date" ? { min, max } : {}),
  });
  return fieldset(field, type, [
    element("div", { className: "range" },
      end("from", ">=", String(min)), element("span", { "aria-hidden": "true" }, "–"), end("to", "<=", String(max))),
    kind === "date" ? element("p", { className: "soft" }, `${min} to ${max}`) : null,
  ]);
}

function fieldset(field, type, children) {
  const group = element("fieldset", {}, element("legend", {}, field), ...children);
  group.dataset.field = field;
  group.dataset.type = type;
  return group;
}

function given(end, type) {
  if (type !== "datetime") return Number(end.value);
  return end.dataset.operator === "<=" ? `${end.value}T23:59:59.999999` : end.value;
}
