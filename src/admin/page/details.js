// One lock or session in full, as it is now.

class Details {
  constructor({ rights, instance, open, looked }) {
    Object.assign(this, { rights, instance, open, looked });
    this.element = byId("details");
  }

  /** Shows what was chosen from a list, graph or event: a lock or a session. */
  async choose(what) {
    this.chosen = what.key === undefined ? { session: what.session } : { key: what.key, key_base64: what.key_base64 };
    if (this.chosen.key === undefined && this.chosen.session === undefined) return;
    this.before ??= document.activeElement;
    this.element.hidden = false;
    byId("work").classList.add("split");
    await this.show();
    this.element.querySelector("h2")?.focus();
  }

  close() {
    if (this.element.hidden) return false;
    this.chosen = undefined;
    this.element.hidden = true;
    byId("work").classList.remove("split");
    if (this.before?.isConnected) this.before.focus();
    this.before = undefined;
    return true;
  }

  async show() {
    const { chosen } = this;
    if (!chosen) return;
    let parts;
    try {
      parts = chosen.key === undefined ? await this.session(chosen.session) : await this.lock(chosen);
    } catch (error) {
      parts = [make("h2", { tabindex: -1 }, "Not known"), make("p", { class: "problem wrong" }, inert(why(error)))];
    }
    if (chosen === this.chosen) this.put(parts);
  }

  /** Keeps the focus where it was, as this is drawn anew at each look. */
  put(parts) {
    const focusable = () => [...this.element.querySelectorAll("h2, button")];
    const focused = focusable().findIndex((one) => one === document.activeElement);
    const { scrollTop } = this.element;
    const close = make("button", { type: "button", class: "close", "aria-label": "Close", title: "Close (Esc)", click: () => this.close() }, "✕");
    this.element.replaceChildren(close, ...parts);
    this.element.scrollTop = scrollTop;
    if (focused >= 0) (focusable()[focused] ?? this.element.querySelector("h2"))?.focus();
  }

  async lock({ key, key_base64: base64 }) {
    const { locks } = await ask("locks", { key: wordOf(key, base64) });
    const title = make("h2", { tabindex: -1 }, word(key, 4096));
    const [lock] = locks;
    if (!lock) return [title, make("p", {}, "Nobody holds this lock now.")];
    const facts = [["mode", mode(lock)]];
    if (base64 !== undefined) facts.push(["in base64", word(base64, 6000)]);
    const holders = lock.holders.map((one) => make("li", {}, this.linked(one), " ", ...heldText(one)));
    const waiting = lock.waiting.map((one) => make("li", {}, this.linked(one), ` waits ${span(one.waited_ms)}, gives up in ${span(one.left_ms)}`, one.owner === undefined ? "" : " for ", one.owner === undefined ? "" : word(`@${one.owner}`)));
    return [
      title, pairs(facts),
      make("h3", {}, heading(lock.holders_in_all, holders.length, "holder")), make("ul", {}, ...holders),
      make("h3", {}, heading(lock.waiting_in_all, waiting.length, "request that waits", "requests that wait")),
      waiting.length > 0 ? make("ul", {}, ...waiting) : null, this.lockActs(lock),
    ].filter(Boolean);
  }

  lockActs(lock) {
    if (!this.rights().admin) return hint();
    const after = () => this.looked();
    const isOwned = lock.holders.every((one) => one.owner !== undefined);
    const press = (what) => () => askToFree(what, lock, after);
    return make("div", { class: "acts" },
      isOwned ? make("button", { type: "button", class: "grave", click: press("break") }, "Break …") : null,
      make("button", { type: "button", class: "grave", click: press("force_unlock") }, "Take away …"));
  }

  async session(number) {
    const { sessions } = await ask("sessions", { session: number });
    const [one] = sessions;
    const instance = this.instance();
    const title = make("h2", { tabindex: -1 }, `Session #${number}`, one?.name === undefined ? "" : " ", one?.name === undefined ? "" : word(one.name));
    if (!one) return [title, make("p", {}, "This session is over.")];
    const facts = [
      ["from", word(one.peer)],
      ["state", one.connected ? `connected, idle ${span(one.idle_ms ?? 0)}` : `disconnected; over in ${span(one.grace_left_ms)}`],
      ["grace period", one.grace_ms === 0 ? "none" : span(one.grace_ms)],
      ["locks", count(one.locks)],
    ];
    if (one.user !== undefined) facts.push(["user", word(one.user)]);
    if (one.waits_for !== undefined) {
      const key = { key: one.waits_for, key_base64: one.waits_for_base64 };
      facts.push(["waits for", make("button", { type: "button", class: "plain", click: () => this.open(key) }, word(one.waits_for))]);
      facts.push(["waits", `since ${span(one.waited_ms)}, gives up in ${span(one.left_ms)}`]);
    }
    const kick = make("button", { type: "button", class: "grave", click: () => askToKick(one, instance, () => this.looked()) }, "End this session …");
    return [title, pairs(facts), this.rights().admin ? make("div", { class: "acts" }, kick) : hint()];
  }

  /** A session as a button that shows it; an owner, of which nothing more is known, as it is. */
  linked(one) {
    if (one.session === undefined) return party(one);
    return make("button", { type: "button", class: "plain", click: () => this.open({ session: one.session }) }, party({ session: one.session, name: one.name }));
  }
}

function heldText(one) {
  const since = one.since_ms === undefined ? "" : moment(one.since_ms);
  const lease = one.lease_left_ms === undefined ? "" : `, lease ends in ${span(one.lease_left_ms)}`;
  return ["for ", span(one.held_ms), ", since ", since, lease, make("span", { class: "quiet" }, `, token ${one.token}`)];
}

function heading(inAll, shown, one, more) {
  return inAll > shown ? `${several(inAll, one, more)}, the first ${count(shown)}` : several(inAll, one, more);
}

function pairs(facts) {
  return make("dl", {}, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function hint() {
  return make("p", { class: "quiet" }, "To end a session or take a lock away takes the right “admin”.");
}
