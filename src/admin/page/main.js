// The page: looks at the server again and again, and shows what it saw.

const LOOK_MS = 2000;
const LONGEST_PAUSE_MS = 15_000;
const MOST_EVENTS = 2000;
const SPANS = [6e5, HOUR_MS];

const state = {
  filter: "", info: undefined, waits: undefined, events: [], lastEvent: undefined,
  samples: new Samples(), rights: { admin: false }, lastLook: undefined,
};

const open = (what) => details.choose(what);
const details = new Details({ rights: () => state.rights, instance: () => state.info.instance, open, looked: () => looker.soon() });
const lists = [new WaitList(open), new EventList(open), new SessionList(open), new LockList(open)];
const charts = CHARTS.map((plan) => new Chart(plan));
let [shown] = lists;
let drawnSpan = SPANS[0];

/** One look: what is in the numbers decides whether the server is there; the rest may fail by itself. */
async function look() {
  const prefix = state.filter;
  const [info, waits, events] = await Promise.allSettled([
    ask("info"), ask("waits", { prefix, limit: 100 }), ask("events", { after: state.lastEvent }),
  ]);
  if (info.status === "rejected") throw info.reason;
  if (state.info?.instance !== info.value.instance) return begin(info.value);
  state.info = info.value;
  state.samples.add(info.value, info.value.now_ms);
  if (prefix === state.filter) {
    state.waits = waits.value ?? state.waits;
    state.graph = state.waits && new WaitGraph(state.waits);
    state.waitsFailure = waits.reason && why(waits.reason);
  }
  state.eventsFailure = events.reason && why(events.reason);
  if (events.value) take(events.value);
  show();
}

/** The first look at this run of the server. */
async function begin(info) {
  const [rights, history] = await Promise.all([ask("rights"), ask("history")]);
  Object.assign(state, { info, rights, waits: undefined, events: [], lastEvent: undefined, samples: new Samples() });
  state.samples.begin(history);
  document.title = `elockd ${location.host}`;
  return look();
}

function take({ events, last }) {
  const since = state.info.now_ms - HOUR_MS;
  state.events = [...events.reverse(), ...state.events].slice(0, MOST_EVENTS).filter((one) => one.at_ms >= since);
  state.lastEvent = last;
}

function show() {
  const { info } = state;
  byId("server").textContent = `${info.version} at ${location.host}, up ${span(info.uptime_seconds * 1000)}${info.store === "memory" ? ", in memory: a restart forgets all locks" : ""}`;
  byId("problems").replaceChildren(...problems(state, () => choose(1)));
  byId("figures").replaceChildren(...figures(state));
  for (const chart of charts) chart.show(state.samples, drawnSpan);
  showTabs();
  shown.show(state);
  details.show();
}

/** Looks again and again; not while nobody sees it. */
class Looker {
  constructor() {
    this.failures = 0;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.rest() : this.soon()));
  }

  rest() {
    clearTimeout(this.timer);
    linkIs("rest", "resting");
  }

  /** Now, or at once after the look that is under way. */
  soon() {
    this.isWanted = true;
    if (!this.isBusy) this.run();
  }

  async run() {
    clearTimeout(this.timer);
    Object.assign(this, { isBusy: true, isWanted: false });
    try {
      await look();
      this.failures = 0;
      state.lastLook = new Date();
      linkIs("live", "live");
    } catch (error) {
      this.failures += 1;
      this.lost(error);
    }
    this.isBusy = false;
    if (this.isWanted) this.run();
    else if (!document.hidden) this.timer = setTimeout(() => this.run(), this.pause());
    else this.rest();
  }

  pause() {
    return Math.min(LONGEST_PAUSE_MS, LOOK_MS * Math.max(1, this.failures));
  }

  lost(error) {
    const since = state.lastLook ? `What is shown is from ${state.lastLook.toTimeString().slice(0, 8)}.` : "Nothing was seen yet.";
    linkIs("lost", state.lastLook ? `no answer since ${state.lastLook.toTimeString().slice(0, 8)}` : "no answer");
    const text = `${why(error)}. ${since} Trying again every ${this.pause() / 1000} s.`;
    const lost = make("p", { class: "problem wrong", id: "lost" }, make("strong", {}, "No answer from elockd:"), inert(text));
    byId("lost")?.remove();
    byId("problems").prepend(lost);
  }
}

function linkIs(kind, text) {
  document.body.classList.toggle("stale", kind === "lost");
  const link = byId("link");
  if (link.textContent !== text) link.textContent = text;
  link.dataset.state = kind;
}

function showTabs() {
  lists.forEach((list, place) => {
    const number = list.count(state);
    const text = number === undefined ? list.title : `${list.title} ${count(number)}`;
    const tab = byId("tabs").children[place];
    if (tab.textContent !== text) tab.textContent = text;
    tab.setAttribute("aria-selected", String(list === shown));
    tab.tabIndex = list === shown ? 0 : -1;
  });
}

function choose(place) {
  shown = lists[place];
  byId("panel").replaceChildren(shown.element);
  byId("panel").setAttribute("aria-labelledby", `tab-${place}`);
  byId("filter").placeholder = shown instanceof SessionList ? "#number, name or address …" : "keys that begin with …";
  showTabs();
  if (state.info) shown.show(state);
}

function makeTabs() {
  const tabs = lists.map((list, place) => make("button", {
    id: `tab-${place}`, type: "button", role: "tab", "aria-controls": "panel", title: `(${place + 1})`, click: () => choose(place),
  }, list.title));
  byId("tabs").append(...tabs);
  byId("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: lists.length - 1 }[event.key];
    if (step === undefined) return;
    choose((lists.indexOf(shown) + step) % lists.length);
    byId("tabs").children[lists.indexOf(shown)].focus();
  });
}

function filterBy(text) {
  const filter = text.trim();
  if (filter === state.filter) return;
  state.filter = filter;
  state.waits = undefined;
  looker.soon();
  if (state.info) shown.show(state);
}

/** Light, dark, or as the system has it, which is the way to begin. */
function theme(next) {
  const kept = (() => {
    try {
      if (next !== undefined) localStorage.setItem("theme", next);
      return localStorage.getItem("theme");
    } catch {
      return next;
    }
  })();
  const isDark = kept ? kept === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  if (kept) document.documentElement.dataset.theme = kept;
  byId("theme").textContent = isDark ? "light" : "dark";
  return isDark;
}

const KEYS = [
  ["/", "filter"], ["1 – 4", "lists"], ["j k ↑ ↓", "along the list"], ["Enter", "details"], ["Esc", "back"],
  ["r", "look again"], ["h", "ten minutes or an hour"], ["t", "light or dark"], ["?", "this"],
];

function showKeys() {
  const close = make("button", { type: "button", click: () => byId("keys").close() }, "Close");
  const list = KEYS.flatMap(([key, what]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, what)]);
  byId("keys").replaceChildren(make("h2", {}, "Keys"), make("dl", {}, ...list), make("div", { class: "acts" }, close));
  byId("keys").showModal();
}

function otherSpan() {
  drawnSpan = SPANS[(SPANS.indexOf(drawnSpan) + 1) % SPANS.length];
  for (const chart of charts) chart.show(state.samples, drawnSpan);
}

function escape() {
  if (details.close()) return;
  if (document.activeElement === byId("filter") || byId("filter").value !== "") {
    byId("filter").value = "";
    filterBy("");
  }
  rowsShown().element.focus();
}

const rowsShown = () => shown.rows;

const SHORTCUTS = {
  "/": () => byId("filter").select(),
  "?": showKeys,
  t: () => theme(theme() ? "light" : "dark"),
  h: otherSpan,
  r: () => {
    shown.refresh?.();
    looker.soon();
  },
  j: () => stepInto(1),
  k: () => stepInto(-1),
  ArrowDown: () => stepInto(1),
  ArrowUp: () => stepInto(-1),
};

function goTo(place) {
  choose(place);
  rowsShown().element.focus({ preventScroll: true });
}

/** From anywhere into the list that is shown. */
function stepInto(step) {
  rowsShown().element.focus();
  rowsShown().move(step);
}

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") return escape();
  if (event.target.closest("input, .graph")) return;
  const act = /^[1-4]$/.test(event.key) ? () => goTo(Number(event.key) - 1) : SHORTCUTS[event.key];
  if (!act || (event.key.startsWith("Arrow") && event.target !== document.body)) return;
  event.preventDefault();
  act();
});
byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  rowsShown().element.focus();
});
let typing;
byId("filter").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => filterBy(byId("filter").value), 250);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme());
byId("theme").addEventListener("click", SHORTCUTS.t);
byId("help").addEventListener("click", showKeys);

const looker = new Looker();
byId("charts").append(...charts.map((chart) => chart.figure));
new ResizeObserver(() => charts.forEach((chart) => chart.lines && chart.redraw())).observe(byId("charts"));
makeTabs();
theme();
choose(0);
looker.soon();
