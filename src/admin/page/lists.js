// The four lists. Each is an object with a `title`, an `element` that is shown, and
// `show(state)`, called after each look at the server.

function empty(title, text) {
  return make("p", { class: "empty" }, make("strong", {}, title), text);
}

const holderCell = (lock) => {
  const [first] = lock.holders;
  if (!first) return "";
  const more = lock.holders_in_all - 1;
  return more > 0 ? make("span", {}, party(first), ` +${count(more)}`) : party(first);
};
const heldCell = (lock) => span(lock.holders[0]?.held_ms);
const keyCell = (lock) => word(lock.key);
const keyColumn = { title: "key", cell: keyCell, class: "first" };
const modeColumn = { title: "mode", cell: mode, wide: true };
const holderColumn = { title: "held by", cell: holderCell, class: "second" };

const WAIT_COLUMNS = [
  keyColumn,
  { title: "waiting", class: "number waiting", cell: (lock) => count(lock.waiting_in_all) },
  { title: "longest", class: "number longest", cell: (lock) => span(lock.longest_ms) },
  holderColumn,
  { title: "for", class: "number phoneless", cell: heldCell },
  modeColumn,
  { title: "next", wide: true, cell: (lock) => (lock.waiting[0] ? party(lock.waiting[0]) : "") },
];

const LOCK_COLUMNS = [
  keyColumn, modeColumn, holderColumn,
  { title: "for", class: "number", cell: heldCell },
  { title: "lease left", class: "number", wide: true, cell: (lock) => span(lock.holders[0]?.lease_left_ms) },
  { title: "waiting", class: "number waiting", cell: (lock) => (lock.waiting_in_all ? count(lock.waiting_in_all) : "") },
];

const SESSION_COLUMNS = [
  { title: "session", class: "first", cell: party },
  { title: "from", class: "phoneless", cell: (one) => word(one.peer) },
  { title: "state", class: "second", cell: (one) => stateOf(one) },
  { title: "grace", class: "number", wide: true, cell: (one) => span(one.grace_ms) },
  { title: "locks", class: "number locks", cell: (one) => count(one.locks) },
  { title: "waits for", wide: true, cell: (one) => (one.waits_for === undefined ? "" : word(one.waits_for)) },
];

function stateOf(one) {
  if (!one.connected) return make("span", { class: "tag heed" }, `gone, ${span(one.grace_left_ms)} left`);
  if (one.waits_for !== undefined) return make("span", { class: "tag" }, `waits ${span(one.waited_ms)}`);
  return one.idle_ms >= 1000 ? `idle ${span(one.idle_ms)}` : "active";
}

const EVENTS = {
  deadlock: { title: "deadlock", tag: "wrong" },
  lease_end: { title: "lease ended", tag: "heed" },
  session_end: { title: "session ended", tag: "heed" },
  break: { title: "broken", tag: "" },
  kick: { title: "kicked", tag: "" },
  revocation: { title: "taken away", tag: "" },
};

/** Of which kinds the server has counters. */
const COUNTED = { deadlock: "deadlocks", lease_end: "lease_ends" };

const EVENT_COLUMNS = [
  { title: "at", cell: (one) => moment(one.at_ms) },
  { title: "what", cell: (one) => tagOf(one) },
  { title: "who", cell: (one) => (one.session === undefined && one.owner === undefined ? "" : party(one)) },
  { title: "which, and how", class: "last", cell: (one) => make("span", {}, ...toldOf(one)) },
];

function tagOf(one) {
  const kind = EVENTS[one.kind] ?? { title: one.kind, tag: "" };
  return make("span", { class: `tag ${kind.tag}` }, kind.title);
}

function toldOf(one) {
  const held = one.held_ms === undefined ? "" : `held for ${span(one.held_ms)}: `;
  if (one.kind === "deadlock") return [word(one.text)];
  return [one.key === undefined ? "" : word(one.key), " ", held, short(one.text, 400)];
}

/** A list with a line above, and another content where it is empty. */
class List {
  constructor(rows) {
    this.rows = rows;
    this.note = make("div", { class: "note" });
    this.instead = make("div");
    this.element = make("div", {}, this.note, rows.element, this.instead);
  }

  put(list, instead) {
    const isEmpty = list.length === 0;
    this.rows.element.hidden = isEmpty;
    this.instead.replaceChildren(...(isEmpty && instead ? [instead] : []));
    this.rows.set(list);
  }

  tell(text, failure) {
    this.note.classList.toggle("failed", failure !== undefined);
    this.note.replaceChildren(failure ?? text);
    this.note.hidden = !(failure ?? text);
  }
}

/** The keys for which somebody waits, and the graph. */
class WaitList extends List {
  constructor(open) {
    super(new Rows({ name: "waits", label: "Keys that are waited for", columns: WAIT_COLUMNS, open, identity: (lock) => lockId(lock.key, lock.key_base64) }));
    this.title = "Waits";
    this.open = open;
    this.graph = make("div", { class: "graph", tabindex: 0, role: "region", "aria-label": "Who waits for whom" });
    this.graphNote = make("p", { class: "note" });
    this.rows.element.classList.add("few");
    this.both = make("div", {},
      make("h2", {}, "Most waited for"), this.note, this.rows.element,
      make("h2", {}, "Who waits for whom"), this.graphNote, this.graph);
    this.element = make("div", {}, this.both, this.instead);
  }

  count(state) {
    return state.info?.waiters;
  }

  show({ waits, graph, waitsFailure, filter }) {
    if (!waits) return this.tell(waitsFailure ? "" : "looking …", waitsFailure);
    const { locks, keys_in_all: keys } = waits;
    const instead = filter
      ? empty("Nobody waits for such a key.", "The filter is on: other keys may be waited for.")
      : empty("Nobody waits.", "Every request for a lock so far was answered at once, or is over. What is held is under Locks.");
    this.put(locks, instead);
    this.both.hidden = locks.length === 0;
    this.tell(keys > locks.length ? `the first ${count(locks.length)} of ${count(keys)} keys` : "", waitsFailure);
    if (locks.length > 0) this.showGraph(graph);
  }

  /** A focus in it stays where it was. */
  showGraph(graph) {
    this.graphNote.hidden = graph.left === 0;
    this.graphNote.textContent = `${several(graph.left, "more key is", "more keys are")} not drawn: filter to see them`;
    const focused = this.graph.contains(document.activeElement) ? document.activeElement.dataset.id : undefined;
    const { scrollLeft, scrollTop } = this.graph;
    this.graph.replaceChildren(graph.drawing(this.open));
    this.graph.scrollTo(scrollLeft, scrollTop);
    if (focused !== undefined) [...this.graph.querySelectorAll("[data-id]")].find((one) => one.dataset.id === focused)?.focus();
  }
}

/** Deadlocks, and locks that were lost. */
class EventList extends List {
  constructor(open) {
    super(new Rows({
      name: "events", label: "Deadlocks and lost locks", columns: EVENT_COLUMNS, identity: (one) => one.number,
      open: (one) => open(one.key === undefined ? one : { key: one.key, key_base64: one.key_base64, holders: [] }),
    }));
    this.title = "Events";
  }

  count(state) {
    return state.events.length;
  }

  show({ events, eventsFailure, filter, samples }) {
    const list = filter ? events.filter((one) => one.key?.startsWith(filter)) : events;
    const instead = filter && events.length > 0
      ? empty("Nothing of such a key.", `${several(events.length, "event")} of other keys in the last hour.`)
      : empty("Nothing was lost, and no deadlock came up, in the last hour.", "Ended leases and grace periods, kicks, breaks and refused deadlocks are listed here.");
    this.put(list, instead);
    const leftOut = Math.max(0, ...Object.entries(COUNTED).map(([kind, name]) => samples.growth(name, HOUR_MS) - events.filter((one) => one.kind === kind).length));
    this.tell(leftOut > 0 ? `at least ${count(leftOut)} more came in crowds, and are only counted` : "", eventsFailure);
  }
}

/** What comes in parts: sessions, and locks. */
class FedList extends List {
  constructor(rows, title) {
    super(rows);
    rows.nearEnd = () => this.more();
    this.title = title;
  }

  /** Begins anew with this feed, but for what is shown, until something has come. */
  async begin(feed) {
    this.feed = feed;
    await this.more();
  }

  async more() {
    const { feed } = this;
    if (!feed || feed.failure !== undefined || !(await feed.more()) || feed !== this.feed) return;
    this.showFeed();
  }

  showFeed() {
    const { feed } = this;
    this.put(feed.list, feed.failure === undefined ? this.instead_of(feed) : null);
    this.tell(this.said(feed), feed.failure);
    if (feed.failure === undefined && !feed.isWhole && feed.list.length < MOST_KEPT) {
      this.note.append(make("button", { type: "button", click: () => this.more() }, "More"));
    }
  }

  /** Looks again, if that moves nothing away from who reads. */
  again() {
    const isAtTop = this.rows.element.scrollTop === 0;
    if (this.feed?.isBusy) return;
    if (!this.feed || this.feed.failure !== undefined || (isAtTop && this.feed.isShort())) this.refresh();
  }

  async refresh() {
    const fresh = this.feedFor(this.filter ?? "");
    await fresh.more();
    this.feed = fresh;
    this.showFeed();
  }

  show({ filter }) {
    if (this.filter !== filter) {
      this.filter = filter;
      this.rows.element.scrollTop = 0;
      this.rows.active = -1;
      this.begin(this.feedFor(filter));
    } else this.again();
  }

  said(feed) {
    const time = new Date(feed.asOf).toTimeString().slice(0, 8);
    const stands = feed.isShort() ? "" : `, as they were at ${time} (r: look again)`;
    if (feed.list.length >= MOST_KEPT) return `the first ${count(feed.list.length)}${stands}: filter to see others`;
    if (feed.isWhole && feed.isShort() && feed.looked === feed.list.length) return "";
    const searched = feed.looked > feed.list.length ? ` of ${count(feed.looked)} searched` : "";
    return `${feed.isWhole ? "" : "the first "}${count(feed.list.length)}${searched}${stands}`;
  }
}

class LockList extends FedList {
  constructor(open) {
    super(new Rows({ name: "locks", label: "Locks", columns: LOCK_COLUMNS, open, identity: (lock) => lockId(lock.key, lock.key_base64) }), "Locks");
  }

  count(state) {
    return state.info?.locks;
  }

  feedFor(filter) {
    return new Feed("locks", { prefix: filter });
  }

  instead_of() {
    return this.filter ? empty("No such key is held.", "Clear the filter to see all locks.") : empty("Nothing is locked.", "A client that sends “lock report” will be seen here.");
  }
}

class SessionList extends FedList {
  constructor(open) {
    super(new Rows({ name: "sessions", label: "Sessions", columns: SESSION_COLUMNS, open, identity: (one) => one.session }), "Sessions");
  }

  count(state) {
    return state.info?.sessions;
  }

  feedFor(filter) {
    const number = /^#?(\d{1,15})$/.exec(filter)?.[1];
    if (number !== undefined) return new Feed("sessions", { session: number });
    return new Feed("sessions", {}, (one) => one.name?.startsWith(filter) || one.peer.startsWith(filter) || one.waits_for?.startsWith(filter));
  }

  instead_of() {
    return this.filter
      ? empty("No such session.", "On this list the filter takes a number, or the beginning of a name, an address, or the key that is waited for.")
      : empty("No sessions.", "Clients are seen here while they are connected, and afterwards in their grace periods.");
  }
}
