// A list that the server tells in parts, as far as somebody has looked.

const PART = 200;
const MOST_KEPT = 100_000;
/** How many parts are searched at one go for what matches. */
const SEARCHED = 10;

class Feed {
  /** `ask` is called with what to go on behind, and returns the next part. */
  constructor(what, parameters, matches = () => true) {
    Object.assign(this, { what, parameters, matches });
    this.list = [];
    this.looked = 0;
    this.next = undefined;
    this.isWhole = false;
    this.failure = undefined;
  }

  /** The next part that has something in it; true if there was something to do. */
  async more() {
    if (this.isBusy || this.isWhole || this.list.length >= MOST_KEPT) return false;
    this.isBusy = true;
    try {
      const before = this.list.length;
      for (let part = 0; part < SEARCHED && !this.isWhole && this.list.length < before + PART / 2; part += 1) {
        this.take(await ask(this.what, { ...this.parameters, after: this.next, limit: PART }));
      }
      this.failure = undefined;
    } catch (error) {
      this.failure = why(error);
    } finally {
      this.isBusy = false;
    }
    return true;
  }

  take(answer) {
    const part = answer[this.what];
    this.looked += part.length;
    this.next = answer.next;
    this.isWhole = answer.next === undefined;
    for (const one of part) if (this.matches(one)) this.list.push(one);
    this.asOf = Date.now();
  }

  /** Whether it can be asked for anew without a loss to whoever reads it. */
  isShort() {
    return this.looked <= PART;
  }
}
