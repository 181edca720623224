// What an admin can do, each behind a question.

/** Asks, and does `act` on a yes. The answer that changes nothing has the focus. */
function question({ title, text, yes, act }) {
  const dialog = byId("question");
  const failure = make("p", { class: "problem wrong", hidden: "" });
  const doIt = make("button", { type: "button", class: "grave" }, yes);
  const cancel = make("button", { type: "button", click: () => dialog.close() }, "Cancel");
  doIt.addEventListener("click", async () => {
    doIt.disabled = true;
    try {
      const done = await act();
      dialog.close();
      say(done);
    } catch (error) {
      failure.textContent = `Not done: ${inert(why(error))}.`;
      failure.hidden = false;
      doIt.disabled = false;
    }
  });
  dialog.replaceChildren(make("h2", { id: "question-title" }, title),
    make("div", { id: "question-text" }, ...text.map((one) => make("p", {}, one))), failure, make("div", { class: "acts" }, cancel, doIt));
  dialog.showModal();
  cancel.focus();
}

const SAID_MS = 8000;

/** Says for a while what was done. */
function say(text) {
  const said = byId("said");
  said.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => said.replaceChildren(), SAID_MS);
}

/** `instance` is that of the server of which the session's number is. */
function askToKick(session, instance, after) {
  const name = session.name === undefined ? `#${session.session}` : `#${session.session} ${short(session.name, 60)}`;
  const holds = session.locks === 0
    ? ["It holds no lock."]
    : [`It holds ${several(session.locks, "lock")}: they pass on to those who wait, at once.`, "Work that goes on under them is not stopped by this: its client has to see that they are lost."];
  question({
    title: `End session ${name}?`,
    text: [`From ${inert(session.peer)}. Its connection is closed, and its id is good for nothing any more.`, ...holds],
    yes: `End #${session.session}`,
    act: async () => {
      await order("kick", { session: session.session, instance });
      after();
      return `Session ${name} was ended.`;
    },
  });
}

/** The holders as they are shown, and no later one: if the lock passes on meanwhile, the new holder keeps it. */
const lastToken = (lock) => Math.max(...lock.holders.map((one) => one.token));

function askToFree(what, lock, after) {
  const isBreak = what === "break";
  const holders = lock.holders.map((one) => (one.owner === undefined ? `#${one.session}` : `@${short(one.owner, 40)}`));
  const more = lock.holders_in_all > holders.length ? ` and ${count(lock.holders_in_all - holders.length)} more` : "";
  const next = lock.waiting_in_all > 0 ? `${several(lock.waiting_in_all, "request waits", "requests wait")} for it, and the next in line gets it.` : "Nobody waits for it.";
  const warning = isBreak
    ? "Whoever works for the owner is not told before it asks."
    : "Whoever holds it is told that it is revoked when it next asks. Work that goes on under the lock is not stopped by this.";
  question({
    title: isBreak ? "Break this lock?" : "Take this lock from whoever holds it?",
    text: [word(lock.key, 200), `Held by ${holders.join(", ")}${more}. ${next}`, warning],
    yes: isBreak ? "Break" : "Take it away",
    act: async () => {
      await order(what, { key: wordOf(lock.key, lock.key_base64), token: lastToken(lock) });
      after();
      return `${short(lock.key, 60)} was ${isBreak ? "broken" : "taken away"}.`;
    },
  });
}
