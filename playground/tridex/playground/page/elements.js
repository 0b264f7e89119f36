// Elements and requests. Text goes into text nodes alone, so whatever a document holds is shown and never run.

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("--")) made.style.setProperty(key, value);
    else if (key in made && !key.startsWith("aria")) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null));
  return made;
}

export const byId = (id) => document.getElementById(id);

export async function request(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("tridex try has ended. Start it again, and reload this page.");
  }
  const value = await answer.json().catch(() => ({ error: `The page's server failed (${answer.status}).` }));
  if (!answer.ok) throw new Error(value.error);
  return value;
}

export const count = (number) => number.toLocaleString("en");

export function ms(number) {
  return `${number < 10 ? number.toFixed(1) : Math.round(number)} ms`;
}

export function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const place = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, number)) / 3));
  const value = number / 1000 ** place;
  return `${value >= 100 || place === 0 ? Math.round(value) : value.toPrecision(3)} ${units[place]}`;
}
