// What a search and a codec cost: stages as bars, codecs as a table.

import { byId, bytes, count, element, ms, request } from "./elements.js";

const POLL_MS = 700;
const STAGES = ["wait", "tokenise", "encode", "score", "bm25", "fetch", "answer", "client and network", "encode and compare"];
const NAMES = { colbert: "ColBERT", bm25: "BM25", "bi-encoder": "Bi-encoder" };

export function drawTiming(stages, biEncoderMs) {
  const all = Object.entries(stages);
  if (biEncoderMs !== null) all.push(["bi-encoder", { "encode and compare": biEncoderMs }]);
  const total = (spent) => Object.values(spent).reduce((sum, each) => sum + each, 0);
  for (const [system, spent] of Object.entries(stages)) byId(`ms-${system}`).textContent = ms(total(spent));
  const longest = Math.max(...all.map(([, spent]) => total(spent)));
  const colour = (stage) => `s${STAGES.indexOf(stage)}`;
  byId("timing").replaceChildren(
    element("dl", { className: "bars" }, all.flatMap(([system, spent]) => [
      element("dt", {}, NAMES[system], element("span", {}, ms(total(spent)))),
      element("dd", {}, Object.entries(spent).map(([stage, each]) =>
        element("i", { className: `stage ${colour(stage)}`, "--share": each / longest, title: `${stage}: ${ms(each)}` })),
        element("p", { className: "soft" }, Object.entries(spent).filter(([, each]) => each >= 0.05)
          .map(([stage, each]) => element("span", { className: `key ${colour(stage)}` }, `${stage} ${ms(each)}`)))),
    ])),
    element("p", { className: "soft" }, "One plain search each, without explanations: what your program would wait for."),
  );
}

export function drawCodecs(report) {
  const running = report.state === "running";
  const button = element("button", { type: "button", disabled: running, onclick: measure }, report.state === "idle" ? "Measure" : "Measure again");
  const parts = [element("p", { className: "soft" }, "Memory of all documents in each codec, and the share of float32's first 10 hits that it finds, too.")];
  if (report.costs.length) parts.push(table(report.costs));
  if (running) {
    const name = report.queries ? `${report.step}, ${report.costs.length + 1} of ${report.total}` : "";
    parts.push(element("p", { className: "soft running", role: "status" }, `Measuring ${name}`,
      element("progress", { max: report.total, value: report.costs.length, "aria-label": "Codecs measured" })));
  } else {
    if (report.error) parts.push(element("p", { className: "error", role: "alert" }, report.error));
    if (report.state === "done") parts.push(element("p", { className: "soft" }, `Over ${count(report.queries)} questions: yours, and the beginnings of documents.`));
    parts.push(button);
  }
  byId("codecs").replaceChildren(...parts);
  if (running) setTimeout(follow, POLL_MS);
}

export async function follow() {
  await show(request("/api/codecs"));
}

async function measure() {
  await show(request("/api/codecs", {}));
}

async function show(report) {
  try {
    drawCodecs(await report);
  } catch (error) {
    drawCodecs({ state: "failed", costs: [], error: error.message });
  }
}

function table(costs) {
  const most = Math.max(...costs.map((cost) => cost.device_bytes));
  const heads = ["codec", "memory", "a document", "same hits"];
  return element("div", { className: "rows", tabIndex: 0, role: "region", "aria-labelledby": "codecs-title" },
    element("table", {},
      element("thead", {}, element("tr", {}, heads.map((head, i) => element("th", { scope: "col", className: i ? "number" : "" }, head)))),
      element("tbody", {}, costs.map((cost) => element("tr", {},
        element("th", { scope: "row" }, cost.codec, element("i", { className: "memory", "--share": cost.device_bytes / most, "aria-hidden": "true" })),
        element("td", { className: "number" }, bytes(cost.device_bytes)),
        element("td", { className: "number" }, bytes(cost.bytes_per_document)),
        element("td", { className: "number" }, `${(100 * cost.agreement).toFixed(1)} %`))))));
}
