// What is wrong, the worst first.

const LONG_WAIT_MS = 60_000;
/** From which part of a limit on it is near. */
const NEAR = 0.8;
const LIMITS = {
  connections: "Connections are", locks: "Locks are", grace_sessions: "Sessions in their grace periods are",
  address_connections: "Connections of one address are", address_locks: "Locks of one address are",
  address_grace_sessions: "Sessions of one address in their grace periods are", address_waiters: "Requests of one address that wait are",
  address_commands: "Commands of one address in a second are", user_commands: "Commands of one user in a second are",
  user_connections: "Connections of one user are", user_locks: "Locks of one user are",
  user_grace_sessions: "Sessions of one user in their grace periods are", user_waiters: "Requests of one user that wait are",
};

/** `showEvents` shows the list of what happened. */
function problems({ info, waits, graph, samples, events, filter }, showEvents) {
  const found = [];
  const add = (kind, title, ...text) => {
    const problem = make("p", { class: `problem ${kind}` }, make("strong", {}, title), ...text);
    const place = kind === "wrong" ? found.findLastIndex((one) => one.classList.contains("wrong")) + 1 : found.length;
    found.splice(place, 0, problem);
  };
  const show = () => make("button", { type: "button", class: "plain", click: showEvents }, "show");
  if (info.storing !== "yes") {
    add("wrong", "Changes are refused.", make("span", {}, inert(info.storing)),
      "They are answered 500 until there is room, or the disk works. The server tries again every second; a restart does not help. Look at the disk of the data directory.");
  } else {
    for (const { text } of info.not_ready) add("wrong", "Not ready.", inert(text));
  }
  for (const { what, used, limit } of info.limits) {
    if (used >= NEAR * limit) add("heed", `${LIMITS[what] ?? what} near the limit:`, `${count(used)} of ${count(limit)}.`);
  }
  const deadlocks = samples.growth("deadlocks", HOUR_MS);
  if (deadlocks > 0) {
    const last = events.find((one) => one.kind === "deadlock");
    add("wrong", `${several(deadlocks, "deadlock")} in the last hour.`, ...(last ? [make("span", {}, "Last at ", moment(last.at_ms), ": ", word(last.text, 200))] : []), show());
  }
  const lost = ["lease_ends", "grace_ends"].map((name) => samples.growth(name, HOUR_MS));
  if (lost[0] > 0) add("heed", `${several(lost[0], "lock")} lost by the end of a lease`, "in the last hour.", show());
  if (lost[1] > 0) add("heed", `${several(lost[1], "session")} with locks lost by the end of a grace period`, "in the last hour.", show());
  const [longest] = waits?.longest ?? [];
  if (longest && longest.longest_ms >= LONG_WAIT_MS) {
    const [holder] = longest.holders;
    add("heed", `Somebody has waited for ${span(longest.longest_ms)}`, make("span", {}, "for ", word(longest.key, 80),
      ...(holder ? [", held by ", party(holder), ` for ${span(holder.held_ms)}`] : []), "."), ...(filter ? [] : inFront(graph)));
  }
  if (found.length > 0) return found;
  const calm = longest ? `The longest wait is ${span(longest.longest_ms)}.` : "Nobody waits.";
  add("well", "Nothing is wrong.", `No deadlock, and no lock lost, in ${info.uptime_seconds < 3600 ? `the ${span(info.uptime_seconds * 1000)} since the start` : "the last hour"}. ${calm}`);
  return found;
}

function inFront(graph) {
  const front = graph?.front();
  return front ? [make("span", {}, party(front.party), ` holds up ${graph.isWhole ? "" : "at least "}${several(front.weight, "request")}.`)] : [];
}

function figures({ info, samples }) {
  const perSecond = (name) => {
    const now = samples.now(name);
    return now === undefined ? "–" : rate(now);
  };
  const parts = [
    ["locks held", count(info.locks)],
    ["requests wait", count(info.waiters)],
    ["sessions", count(info.sessions), info.sessions > info.connected_sessions ? ` ${count(info.sessions - info.connected_sessions)} gone` : ""],
    ["grants", perSecond("grants"), " /s"],
    ["handed over", perSecond("hand_overs"), " /s"],
    ["refused", perSecond("refusals"), " /s"],
    ["deadlocks, 1 h", count(samples.growth("deadlocks", HOUR_MS))],
    ["locks lost, 1 h", count(samples.growth("lease_ends", HOUR_MS) + samples.growth("grace_ends", HOUR_MS))],
    ["store", info.store === "memory" ? "memory" : size(info.store_bytes)],
  ];
  return parts.map(([name, value, unit]) => make("div", {}, make("dt", {}, name), make("dd", {}, value, make("small", {}, unit ?? ""))));
}

function size(bytes) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const number = bytes / 1000 ** power;
  return `${power > 0 && number < 10 ? number.toFixed(1) : Math.round(number)} ${units[power]}`;
}
