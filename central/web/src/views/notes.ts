/** What lies over the map: tooltip, waiting note, failures in words, and the spoken state. */
import { ApiError, backOffS, type Device } from "../api";
import { h } from "../dom";
import { share, words } from "../words";

export class Tooltip {
  readonly element = h("div", { class: "tooltip", hidden: true, "data-part": "tooltip" });

  show(lines: readonly (readonly [kind: string, text: string])[], x: number, y: number): void {
    this.element.replaceChildren(...lines.map(([kind, text]) => h("div", { class: kind }, text)));
    this.element.hidden = false;
    const room = this.element.parentElement!;
    const right = x + 18 + this.element.offsetWidth > room.clientWidth;
    const low = y + 18 + this.element.offsetHeight > room.clientHeight;
    this.element.style.left = `${right ? x - 14 - this.element.offsetWidth : x + 14}px`;
    this.element.style.top = `${low ? y - 14 - this.element.offsetHeight : y + 14}px`;
  }

  hide(): void {
    this.element.hidden = true;
  }
}

export class Waiting {
  readonly element = h("section", { class: "waiting-note", hidden: true, role: "status", "data-part": "waiting" });

  show(devices: readonly Device[]): void {
    const online = devices.filter((d) => d.online).length;
    const known = devices.reduce((sum, d) => sum + (d.recovery?.known ?? 0), 0);
    const expected = devices.reduce((sum, d) => sum + (d.recovery?.expected ?? 0), 0);
    const recovered = expected > 0 ? known / expected : null;
    const bar = h("progress", { max: 1, value: recovered ?? 0, "aria-label": words.empty.title });
    this.element.replaceChildren(
      h("h2", {}, words.empty.title),
      h("p", {}, online === 0 ? words.empty.none : words.empty.agents(online)),
      h("p", {}, words.empty.recovered(share(recovered, 0))),
      bar,
      h("p", { class: "hint" }, words.empty.note),
    );
    this.element.hidden = false;
  }

  hide(): void {
    this.element.hidden = true;
  }
}

/** Failures by what failed; each is shown until its own next success. */
export class Failures {
  readonly element = h("section", { class: "failures", role: "alert" });
  readonly #shown = new Map<string, HTMLElement>();

  /** Says what failed; with `tryNow`, also when it is tried again and a button for at once. */
  show(what: string, error: ApiError, retryInS?: number, tryNow?: () => void): void {
    const item = h(
      "div",
      { class: "failure" },
      h("strong", {}, error.message),
      " ",
      error.remedy,
      retryInS === undefined ? null : ` ${words.retryIn(retryInS)}`,
    );
    if (tryNow) {
      const again = h("button", { type: "button" }, words.tryNow);
      again.addEventListener("click", tryNow);
      item.append(" ", again);
    }
    this.#shown.get(what)?.remove();
    this.#shown.set(what, item);
    this.element.append(item);
  }

  clear(what: string): void {
    this.#shown.get(what)?.remove();
    this.#shown.delete(what);
  }

  /** Asks until it is answered, ever more seldom, with the waiting time in view. */
  async until<T>(what: string, ask: () => Promise<T>): Promise<T> {
    for (let failures = 1; ; failures++) {
      try {
        const answer = await ask();
        this.clear(what);
        return answer;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        await this.#pause(what, error, backOffS(failures));
      }
    }
  }

  #pause(what: string, error: ApiError, seconds: number): Promise<void> {
    return new Promise((resolve) => {
      let left = seconds;
      const done = () => {
        window.clearInterval(timer);
        resolve();
      };
      this.show(what, error, left, done);
      const timer = window.setInterval(() => {
        left -= 1;
        if (left <= 0) done();
        else this.show(what, error, left, done);
      }, 1000);
    });
  }
}

/** Speaks the state to a screen reader, once it has come to rest. */
export class Spoken {
  readonly element = h("p", { class: "spoken", "aria-live": "polite", "data-part": "spoken" });
  #timer = 0;

  say(text: string): void {
    window.clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => (this.element.textContent = text), 500);
  }
}
