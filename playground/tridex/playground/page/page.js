// The page: what it begins with, and what a question does.

import { drawTiming, follow } from "./costs.js";
import { byId, count, element, request } from "./elements.js";
import { clearFilters, conditions, drawFilters } from "./filters.js";
import { drawColumns, drawRankings, drawStatus } from "./rankings.js";
import { drawSnippets } from "./snippets.js";

const EXAMPLES = 3;
const POLL_MS = 1000;
let latest = 0;

async function begin() {
  const about = await request("/api/about");
  document.title = `${about.source} · Tridex playground`;
  byId("source").textContent = about.source;
  byId("facts").textContent = `${count(about.count)} documents, ${count(about.tokens)} tokens of ${about.dim} dimensions · ${about.columns}`;
  byId("filters").open = matchMedia("(min-width: 60rem)").matches;
  drawFilters(about.controls, () => byId("query").value.trim() && search());
  drawColumns(about.bi_encoder);
  invite(about.examples);
  if (about.bi_encoder.state !== "ready") await followBiEncoder();
}

function invite(examples) {
  byId("hits-colbert").replaceChildren(element("li", { className: "empty" }, "Ask something, or begin with",
    examples.slice(0, EXAMPLES).map((example) => element("button", { type: "button", className: "quiet", onclick: () => ask(example) }, example))));
}

function ask(query) {
  byId("query").value = query;
  search();
}

async function search() {
  const query = byId("query").value.trim();
  const mine = ++latest;
  const asked = { query, conditions: conditions() };
  const results = byId("results");
  results.setAttribute("aria-busy", "true");
  history.replaceState(null, "", `?${new URLSearchParams({ query })}`);
  try {
    const answer = await request("/api/search", asked);
    if (mine !== latest) return;
    say(answer.rankings);
    drawRankings(answer.rankings, query);
    drawSnippets(answer.snippets);
    results.removeAttribute("aria-busy");
    const stages = await request("/api/timing", asked);
    if (mine === latest) drawTiming(stages, answer.rankings.find(({ system }) => system === "bi-encoder")?.ms ?? null);
  } catch (error) {
    if (mine === latest) fail(error, search);
  } finally {
    if (mine === latest) results.removeAttribute("aria-busy");
  }
}

function say(rankings) {
  byId("trouble").hidden = true;
  const found = rankings.some(({ hits }) => hits.length);
  const lists = rankings.map(({ hits }) => hits.map(({ id }) => id));
  const shared = lists[0].filter((id) => lists.every((ids) => ids.includes(id))).length;
  byId("status").replaceChildren(...(found || !conditions().length
    ? [found ? `${shared} of the first ${lists[0].length} hits are the same in all ${lists.length}.` : "Nothing was found."]
    : [
      "No document that passes the filters was found. ",
      element("button", { type: "button", className: "quiet", onclick: clearFilters }, "Clear the filters"),
    ]));
}

function fail(error, again) {
  const trouble = byId("trouble");
  trouble.replaceChildren(element("span", {}, error.message), element("button", { type: "button", onclick: again }, "Try again"));
  trouble.hidden = false;
}

async function followBiEncoder() {
  const status = await request("/api/bi-encoder");
  drawStatus(status);
  if (status.state === "reading") {
    setTimeout(() => followBiEncoder().catch((error) => fail(error, followBiEncoder)), POLL_MS);
  } else if (status.state === "absent") {
    byId("rankings").querySelector(".bi-encoder")?.remove();
    byId("rankings").dataset.columns = 2;
    byId("status").textContent = `No bi-encoder beside them: ${status.reason}`;
  } else {
    byId("hits-bi-encoder").replaceChildren();
    if (byId("query").value.trim()) search();
  }
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (byId("query").value.trim()) search();
});

begin()
  .then(() => {
    follow();
    const query = new URLSearchParams(location.search).get("query");
    if (query) ask(query);
    else byId("query").focus();
  })
  .catch((error) => fail(error, () => location.reload()));
