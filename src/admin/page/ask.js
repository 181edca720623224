// Questions to the server, and orders.

const PATIENCE_MS = 15_000;

/** The server answered, but not with what was asked for. */
class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** @returns the answer to `/api/WHAT`, with those of the parameters that have a value. */
function ask(what, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== "");
  const query = given.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
  return fetched(`/api/${what}${query && "?"}${query}`, {});
}

/** Has the server do something. */
function order(what, body) {
  const headers = { "Content-Type": "application/json" };
  return fetched(`/api/${what}`, { method: "POST", headers, body: JSON.stringify(body) });
}

async function fetched(path, options) {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const answer = await fetch(path, { cache: "no-store", credentials: "same-origin", redirect: "error", signal, ...options });
  const text = await answer.text();
  const said = parsed(text);
  if (!answer.ok) throw new Refused(answer.status, said?.error ?? (text.slice(0, 200) || answer.statusText));
  if (said === undefined) throw new Refused(answer.status, "the answer is no JSON");
  return said;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Why a question failed, in words. */
function why(error) {
  if (error instanceof Refused) {
    return error.status === 401 ? "the server asks for a password: load the page again" : `${error.message} (${error.status})`;
  }
  return error.name === "TimeoutError" ? `no answer within ${PATIENCE_MS / 1000} s` : "the server cannot be reached";
}

/**
 * A key as the word by which the server is asked for it. It came as text, and, where that is not the key itself, in
 * base64 too; in the word `\xNN` stands for a byte.
 */
function wordOf(text, base64) {
  if (base64 === undefined) return text.replaceAll("\\", "\\x5C");
  const bytes = Array.from(atob(base64), (one) => one.charCodeAt(0).toString(16).padStart(2, "0"));
  return bytes.map((byte) => `\\x${byte}`).join("");
}
