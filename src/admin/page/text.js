// Text of clients, and numbers and times, for people. Nothing here, or elsewhere on the page, makes markup of
// data: all text becomes text nodes, and the page's policy has the browser refuse anything else.

/** An element with attributes and children; strings among them become text. */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for drawings. */
function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== undefined && child !== null));
  return node;
}

const byId = (id) => document.getElementById(id);

/**
 * Characters that show nothing, or that change how what stands beside them is shown: marks and overrides of
 * direction, joiners, spaces but the plain one, separators of lines. The server has made those of clients visible;
 * what a browser knows as such besides is shown as the server would.
 */
const UNSEEN = /[\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]|(?! )\p{Zs}/gu;

/** A client's text, with the bytes of what could not be seen as `\xNN`. */
function inert(text) {
  const escaped = (byte) => `\\x${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  return text.replace(UNSEEN, (one) => Array.from(new TextEncoder().encode(one), escaped).join(""));
}

/** The same, of no more than so many characters. */
function short(text, most) {
  const letters = Array.from(inert(text.slice(0, 4 * most)));
  return letters.length <= most ? letters.join("") : `${letters.slice(0, most - 1).join("")}…`;
}

/** A key or word, in its own direction and apart from what stands beside it. */
function word(text, most = 400) {
  return make("span", { class: "word", dir: "auto", title: text.length > 40 ? short(text, 4000) : null }, short(text, most));
}

const grouped = new Intl.NumberFormat("en-US");
const count = (number) => grouped.format(number);

/** `one lock`, `2 locks`. */
function several(number, one, more = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : more}`;
}

/** A number of things a second: one digit more than is needed to see that it is not 0. */
function rate(number) {
  if (number >= 100 || Number.isInteger(number)) return count(Math.round(number));
  return number >= 10 ? number.toFixed(1) : number.toFixed(2);
}

/** The two largest units, as the command `elock` shows them: `2h 5m`, `3.4s`, `12ms`. */
function span(ms) {
  if (ms === undefined || ms === null) return "";
  const [second, minute, hour, day] = [1e3, 6e4, 36e5, 864e5];
  if (ms < second) return `${Math.round(ms)}ms`;
  if (ms < minute) return `${(Math.floor(ms / 100) / 10).toFixed(1)}s`;
  const two = (large, a, small, b) => `${Math.floor(ms / large)}${a} ${Math.floor((ms % large) / small)}${b}`;
  if (ms < hour) return two(minute, "m", second, "s");
  return ms < day ? two(hour, "h", minute, "m") : two(day, "d", hour, "h");
}

/** The time of day here, with the date where that is another; the moment in full is in the title. */
function moment(ms) {
  const [then, now] = [new Date(ms), new Date()];
  const time = then.toTimeString().slice(0, 8);
  const day = then.toDateString() === now.toDateString() ? "" : `${then.getMonth() + 1}/${then.getDate()} `;
  return make("time", { datetime: then.toISOString(), title: then.toISOString() }, day + time);
}

/** Who: `#24 web-3:cron` or `@owner`. */
function party(one) {
  const name = one.owner === undefined ? `#${one.session}` : `@${one.owner}`;
  return word(one.name === undefined ? name : `${name} ${one.name}`);
}

function mode(lock) {
  if (lock.mode === "shared") return `shared ${short(lock.value, 24)}`;
  return lock.mode === "slots" ? `${count(lock.slots)} slots` : lock.mode;
}
