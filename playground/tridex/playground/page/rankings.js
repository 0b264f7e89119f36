// What each system found, side by side.

import { byId, element, ms } from "./elements.js";

const SYSTEMS = {
  colbert: ["ColBERT", "one vector per token"],
  "bi-encoder": ["Bi-encoder", "one vector per document"],
  bm25: ["BM25", "the words themselves"],
};
const MOST_METADATA = 4;

export function drawColumns(biEncoder) {
  byId("rankings").replaceChildren(...Object.keys(SYSTEMS)
    .filter((system) => system !== "bi-encoder" || biEncoder.state !== "absent")
    .map(column));
  byId("rankings").dataset.columns = byId("rankings").children.length;
}

export function drawStatus(biEncoder) {
  const body = byId("hits-bi-encoder");
  if (biEncoder.state !== "reading" || !body) return;
  const meter = element("progress", { max: Math.max(1, biEncoder.total), value: biEncoder.done, "aria-label": "Documents encoded" });
  const text = biEncoder.done ? `Reading the documents: ${biEncoder.done} of ${biEncoder.total}` : "Loading the model";
  body.replaceChildren(element("li", { className: "empty" }, text, meter));
}

export function drawRankings(rankings, query) {
  for (const { system, hits, ms: spent } of rankings) {
    const body = byId(`hits-${system}`);
    if (!body) continue;
    body.replaceChildren(...hits.map((hit, place) => drawn(hit, place + 1, hits[0].score, query)));
    if (!hits.length) body.append(element("li", { className: "empty" }, nothing(system)));
    // Explaining is part of ColBERT's: drawTiming says what a plain search takes.
    byId(`ms-${system}`).textContent = system === "bi-encoder" ? ms(spent) : "";
  }
}

function column(system) {
  const [name, about] = SYSTEMS[system];
  return element("section", { className: `column ${system}`, "aria-labelledby": `name-${system}` },
    element("header", {},
      element("h2", { id: `name-${system}` }, name),
      element("span", { id: `ms-${system}`, className: "soft" }),
      element("p", { className: "soft" }, about)),
    element("ol", { id: `hits-${system}` }));
}

function drawn(hit, rank, best, query) {
  const why = `/explain?${new URLSearchParams({ query, id: hit.id })}`;
  return element("li", { className: "hit" },
    element("h3", {},
      element("span", { className: "rank" }, String(rank)),
      element("bdi", {}, hit.id),
      element("span", { className: "score", title: "Score" }, hit.score.toFixed(2))),
    element("div", { className: "share", "aria-hidden": "true" },
      element("i", { "--share": best > 0 ? Math.max(0, hit.score / best) : 0 })),
    element("p", { className: "text", dir: "auto" }, hit.pieces.map(piece)),
    hit.words.length ? words(hit.words) : null,
    metadata(hit.metadata),
    element("p", { className: "foot" },
      Object.entries(hit.ranks).map(([other, place]) => element("span", {
        className: place ? "also" : "",
      }, `${SYSTEMS[other][0]} ${place ?? "–"}`)),
      element("a", { href: why, target: "_blank", rel: "noopener", "aria-label": `Why? ColBERT's view of ${hit.id}` }, "Why?")));
}

function piece({ text, weight, is_read: isRead }) {
  if (weight > 0) return element("mark", { "--weight": weight }, text);
  return isRead ? text : element("span", { className: "unread" }, text);
}

function words(found) {
  return element("ul", { className: "words", "aria-label": "What the words of the question found" },
    found.map(({ text, contribution, found: other }) =>
      element("li", {}, element("b", {}, text), same(text, other) ? "" : ` → ${other}`, element("span", {}, contribution.toFixed(2)))));
}

const same = (one, other) => one.toLowerCase() === other.toLowerCase();

function metadata(values) {
  const shown = Object.entries(values).filter(([, value]) => value !== null && value !== "").slice(0, MOST_METADATA);
  if (!shown.length) return null;
  return element("dl", { className: "metadata" }, shown.map(([key, value]) =>
    element("div", {}, element("dt", {}, key), element("dd", {}, element("bdi", {}, inLine(value))))));
}

function inLine(value) {
  const text = Array.isArray(value) ? value.join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value);
  return text.length > 60 ? `${text.slice(0, 59)}…` : text;
}

function nothing(system) {
  return system === "bm25" ? "No document has these words." : "No document passes the filters.";
}
