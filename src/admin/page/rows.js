// A list of any length, of which only the rows in sight are in the page.

const BEYOND = 6;

/**
 * `columns`: each has a `title`, a `cell` that makes a row's content, a `class`, and is `wide` if a phone has no room
 * for it. `open` is called with the row that is chosen, `nearEnd` when the end comes into sight.
 */
class Rows {
  constructor({ name, label, columns, open, nearEnd, identity }) {
    Object.assign(this, { name, columns, open, nearEnd, identity, list: [], active: -1 });
    const titles = columns.map((column) => make("span", { role: "columnheader", class: classOf(column) }, column.title));
    this.head = make("div", { class: `head ${name}-columns`, role: "row" }, ...titles);
    this.space = make("div", { role: "rowgroup" });
    this.element = make("div", {
      class: "rows", role: "grid", "aria-label": label, tabindex: 0,
      scroll: () => this.later(), keydown: (event) => this.key(event), click: (event) => this.click(event),
    }, this.head, this.space);
    new ResizeObserver(() => this.later()).observe(this.element);
  }

  /** Shows these rows; the active one stays the one it was, by its identity. */
  set(list) {
    const active = this.list[this.active];
    this.list = list;
    if (active !== undefined && this.list[this.active] !== active) {
      const identity = this.identity(active);
      this.active = list.findIndex((row) => this.identity(row) === identity);
    }
    this.drawRows();
  }

  /** At most one drawing for each frame. */
  later() {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = undefined;
      this.drawRows();
    });
  }

  drawRows() {
    const height = this.rowHeight();
    const head = this.head.offsetHeight;
    const seen = this.element.clientHeight || 600;
    const first = Math.max(0, Math.floor((this.element.scrollTop - head) / height) - BEYOND);
    const behind = Math.min(this.list.length, first + Math.ceil(seen / height) + 2 * BEYOND);
    this.space.style.height = `${this.list.length * height}px`;
    this.element.setAttribute("aria-rowcount", this.list.length + 1);
    const rows = [];
    for (let place = first; place < behind; place += 1) rows.push(this.row(place, head + place * height));
    this.space.replaceChildren(...rows);
    const active = this.active >= first && this.active < behind ? `${this.name}-row-${this.active}` : "";
    this.element.setAttribute("aria-activedescendant", active);
    if (behind + 2 * BEYOND >= this.list.length) this.nearEnd?.();
  }

  row(place, top) {
    const row = this.list[place];
    const cells = this.columns.map((column) => make("span", { role: "gridcell", class: classOf(column) }, column.cell(row)));
    const isActive = place === this.active;
    const node = make("div", {
      id: `${this.name}-row-${place}`, role: "row", class: `row ${this.name}-columns${isActive ? " active" : ""}`,
      "aria-rowindex": place + 2, "aria-selected": String(isActive),
    }, ...cells);
    node.style.top = `${top}px`;
    node.dataset.place = place;
    return node;
  }

  rowHeight() {
    return Number.parseFloat(getComputedStyle(this.space).getPropertyValue("--row")) || 28;
  }

  click(event) {
    const row = event.target.closest(".row");
    if (!row || event.target.closest("button")) return;
    this.active = Number(row.dataset.place);
    this.drawRows();
    this.open?.(this.list[this.active]);
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.rowHeight()) - 2);
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) this.move(steps[event.key]);
    else if (event.key === "Enter" && this.list[this.active] !== undefined) this.open?.(this.list[this.active]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Makes the row so many further on the active one, and brings it into sight. */
  move(steps) {
    if (this.list.length === 0) return;
    this.active = Math.min(this.list.length - 1, Math.max(0, this.active + steps));
    const [height, head] = [this.rowHeight(), this.head.offsetHeight];
    const [top, bottom] = [this.active * height, (this.active + 1) * height + head];
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (bottom > scrollTop + clientHeight) this.element.scrollTop = bottom - clientHeight;
    this.drawRows();
  }
}

function classOf(column) {
  return [column.class, column.wide && "wide"].filter(Boolean).join(" ");
}
