// Who waits for whom, drawn from left to right: who holds things up, what is waited for, who waits; and what those
// hold in turn.

const BOX = { width: 172, height: 34, across: 214, down: 42 };
const MOST_LOCKS = 60;
const MOST_HOLDERS = 3;

const lockId = (key, base64) => `k ${key} ${base64 ?? ""}`;
const partyId = (one) => (one.owner === undefined ? `s ${one.session}` : `o ${one.owner}`);

/** The nodes, by their ids; each has `below`, the ids of those that wait for it. */
class WaitGraph {
  constructor({ locks, beyond, waiting_holders: holders, keys_in_all: keys }) {
    this.nodes = new Map();
    this.isWhole = keys <= Math.min(locks.length, MOST_LOCKS);
    this.left = Math.max(0, locks.length - MOST_LOCKS);
    const drawn = [...locks.slice(0, MOST_LOCKS), ...beyond];
    const waits = new Map();
    for (const one of holders) waits.set(`s ${one.session}`, [lockId(one.waits_for, one.waits_for_base64), one]);
    for (const lock of drawn) {
      for (const one of lock.waiting) waits.set(`s ${one.session}`, [lockId(lock.key, lock.key_base64), one]);
    }
    for (const lock of drawn) this.addLock(lock);
    for (const [id, [of, one]] of waits) this.addRequest(id, of, one);
    for (const lock of drawn) this.addCrowd(lock);
    this.place();
  }

  addLock(lock) {
    const id = lockId(lock.key, lock.key_base64);
    this.nodes.set(id, { id, lock, above: [], below: [] });
    for (const one of lock.holders.slice(0, MOST_HOLDERS)) {
      const holder = partyId(one);
      if (!this.nodes.has(holder)) this.nodes.set(holder, { id: holder, party: one, above: [], below: [] });
      this.join(holder, id);
    }
  }

  /** One that waits is a node of its own only if others wait for it. */
  addRequest(id, of, one) {
    const [node, lock] = [this.nodes.get(id), this.nodes.get(of)];
    if (!node || !lock) return;
    node.request = one;
    lock.drawn = (lock.drawn ?? 0) + 1;
    this.join(of, id);
  }

  /** The others that wait, in one node. */
  addCrowd(lock) {
    const of = lockId(lock.key, lock.key_base64);
    const size = lock.waiting_in_all - (this.nodes.get(of).drawn ?? 0);
    if (size <= 0) return;
    const known = lock.waiting.filter((one) => !this.nodes.get(`s ${one.session}`)?.request);
    this.nodes.set(`c ${of}`, { id: `c ${of}`, crowd: size, known, lock, above: [], below: [] });
    this.join(of, `c ${of}`);
  }

  join(above, below) {
    this.nodes.get(above).below.push(below);
    this.nodes.get(below).above.push(above);
  }

  /** How many wait below a node, directly or through others. */
  heldUp(node, seen = new Set()) {
    if (seen.has(node.id)) return 0;
    seen.add(node.id);
    const below = node.below.reduce((sum, id) => sum + this.heldUp(this.nodes.get(id), seen), 0);
    return below + (node.crowd ?? 0) + (node.request ? 1 : 0);
  }

  place() {
    const all = [...this.nodes.values()];
    for (const node of all) node.weight = this.heldUp(node) - (node.request ? 1 : 0);
    const roots = all.filter((node) => node.above.length === 0).sort((one, other) => other.weight - one.weight);
    for (const root of roots) root.isRoot = true;
    this.rows = 0;
    for (const root of roots) this.level(root, 0, new Set());
    for (const root of roots) this.settle(root);
    // What no root leads to is a circle, which lasts until one of its waits is over.
    for (const node of all.filter((one) => one.row === undefined)) {
      node.isCircle = true;
      if (node.column === undefined) this.level(node, 0, new Set());
      this.settle(node);
    }
    this.columns = 1 + Math.max(0, ...all.map((node) => node.column));
  }

  /** A node stands right of all that it waits for. */
  level(node, column, path) {
    if (path.has(node.id) || column <= (node.column ?? -1)) return;
    node.column = column;
    path.add(node.id);
    for (const id of node.below) this.level(this.nodes.get(id), column + 1, path);
    path.delete(node.id);
  }

  settle(node) {
    if (node.row !== undefined) return;
    node.row = this.rows;
    const below = node.below.map((id) => this.nodes.get(id)).filter((one) => one.row === undefined);
    below.sort((one, other) => other.weight - one.weight);
    for (const one of below) this.settle(one);
    if (below.length === 0) this.rows += 1;
    else node.row = (below[0].row + below.at(-1).row) / 2;
  }

  /** Who holds up most, if anybody waits. */
  front() {
    const roots = [...this.nodes.values()].filter((node) => node.isRoot && node.party);
    return roots.reduce((one, other) => (one && one.weight >= other.weight ? one : other), undefined);
  }

  /** The drawing; `open` is called with a lock or a session that is chosen. */
  drawing(open) {
    const nodes = [...this.nodes.values()];
    const edges = nodes.flatMap((node) => node.below.map((id) => edge(node, this.nodes.get(id))));
    const [width, height] = [(this.columns - 1) * BOX.across + BOX.width + 4, this.rows * BOX.down + 4];
    const label = `Who waits for whom: ${several(nodes.filter((one) => one.isRoot).length, "holder")} in front`;
    return draw("svg", { width, height, viewBox: `-2 -2 ${width} ${height}`, role: "group", "aria-label": label },
      ...edges, ...nodes.map((node) => box(node, open)));
  }
}

function edge(left, right) {
  const [x, y] = [left.column * BOX.across + BOX.width, left.row * BOX.down + BOX.height / 2];
  const [toX, toY] = [right.column * BOX.across, right.row * BOX.down + BOX.height / 2];
  const middle = (x + toX) / 2;
  return draw("g", {},
    // Of those who hold slots, any one has to let go; of others, each.
    draw("path", { class: `edge${right.lock?.mode === "slots" && !right.crowd ? " any" : ""}`, d: `M${toX} ${toY}C${middle} ${toY} ${middle} ${y} ${x + 7} ${y}` }),
    draw("path", { class: "tip", d: `M${x} ${y}l8 -4v8z` }));
}

function box(node, open) {
  const { title, sub } = textOf(node);
  const kind = node.lock && !node.crowd ? "lock" : "party";
  const choose = () => open(node.lock ?? node.party);
  const isOpen = node.lock !== undefined || node.party.session !== undefined;
  const press = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    choose();
  };
  const marks = [node.isRoot && "root", node.isCircle && "circle"].filter(Boolean).join(" ");
  const acts = isOpen ? { role: "button", tabindex: 0, click: choose, keydown: press } : {};
  return draw("g", {
    class: `node ${kind} ${marks}`, "data-id": node.id, "aria-label": `${title}: ${sub}`,
    transform: `translate(${node.column * BOX.across} ${node.row * BOX.down})`, ...acts,
  },
    draw("rect", { width: BOX.width, height: BOX.height, rx: kind === "lock" ? 17 : 4 }),
    // A drawing in the drawing, which cuts what is wider than the box.
    draw("svg", { x: 10, width: BOX.width - 16, height: BOX.height },
      draw("text", { y: 14 }, title), draw("text", { class: "sub", y: 28 }, sub)));
}

function textOf(node) {
  if (node.crowd) {
    const known = node.known.slice(0, 3).map((one) => `#${one.session}`).join(", ");
    const title = node.crowd === 1 && node.known[0] ? partyText(node.known[0]) : `${count(node.crowd)} wait`;
    return { title, sub: node.crowd === 1 ? `waits ${span(node.known[0]?.waited_ms)}` : `${known}${node.crowd > 3 ? " …" : ""}` };
  }
  if (node.lock) {
    const { lock } = node;
    const holders = lock.holders_in_all > MOST_HOLDERS ? `, ${count(lock.holders_in_all)} hold it` : "";
    return { title: short(lock.key, 23), sub: `${count(lock.waiting_in_all)} wait, ${span(lock.longest_ms)}${holders}` };
  }
  const waits = node.request ? `waits ${span(node.request.waited_ms)}, ` : "";
  return { title: partyText(node.party), sub: `${waits}holds up ${count(node.weight)}` };
}

function partyText(one) {
  const name = one.owner === undefined ? `#${one.session}` : `@${one.owner}`;
  return short(one.name === undefined ? name : `${name} ${one.name}`, 25);
}
