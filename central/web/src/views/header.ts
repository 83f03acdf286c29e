/** The top line (town, clock, connection) and the bottom line (notices). */
import type { Catalog } from "../api";
import { h } from "../dom";
import type { TownClock } from "../time";
import { words } from "../words";

export type Connection = "connected" | "reconnecting";

export class Header {
  readonly element = h("header", { class: "header" });
  readonly notices = h("footer", { class: "notices" });
  readonly #town = h("h1", {}, words.brand);
  readonly #clockName = h("span", { class: "label" });
  readonly #clock = h("time", { class: "clock", "data-part": "clock" });
  readonly #connection = h("span", { class: "connection", role: "status" });
  #catalog: Catalog | null = null;
  #townClock: TownClock | null = null;
  #receivedMs = 0;

  constructor() {
    this.element.append(
      h(
        "div",
        { class: "brand" },
        h("img", { src: "/icon.svg", alt: "", width: 26, height: 26 }),
        h("span", { class: "brand-name" }, words.brand),
      ),
      h("div", { class: "town" }, this.#town, h("span", { class: "label" }, words.subtitle)),
      h("div", { class: "clock-box" }, this.#clockName, this.#clock),
      this.#connection,
    );
    this.setConnection("reconnecting");
    window.setInterval(() => this.#tick(), 1000);
  }

  setCatalog(catalog: Catalog, clock: TownClock): void {
    this.#catalog = catalog;
    this.#townClock = clock;
    this.#receivedMs = performance.now();
    document.title = `${catalog.town.title} · ${words.brand}`;
    this.#town.textContent = catalog.town.title;
    const { speed } = catalog.clock;
    this.#clockName.textContent = speed === null ? words.clock : words.simulatedClock(speed);
    const notices = [...catalog.town.notices, catalog.town.synthetic_note].filter(Boolean);
    this.notices.replaceChildren(...notices.map((notice) => h("span", {}, notice)));
    this.#tick();
  }

  setConnection(connection: Connection): void {
    this.#connection.dataset["state"] = connection;
    this.#connection.textContent =
      connection === "connected" ? words.connected : words.reconnecting;
  }

  /** The centre's clock now: as received, moved on at its own speed. */
  #tick(): void {
    if (!this.#catalog || !this.#townClock) return;
    const { now_utc_s, speed } = this.#catalog.clock;
    const passedS = ((performance.now() - this.#receivedMs) / 1000) * (speed ?? 1);
    this.#clock.textContent = this.#townClock.full(now_utc_s + passedS);
  }
}
