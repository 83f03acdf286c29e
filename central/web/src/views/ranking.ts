/** The table twin of the map's transformers, ranked by peak utilisation, with a search. */
import { h } from "../dom";
import { classOf, css, NO_DATA, TRANSFORMER_COLOURS, TRANSFORMER_SCALE } from "../scale";
import type { Ranked } from "../utilisation";
import { number, words } from "../words";

interface Row {
  readonly element: HTMLTableRowElement;
  readonly button: HTMLButtonElement;
  readonly now: HTMLTableCellElement;
  readonly id: string;
  readonly text: string;
}

export class Ranking {
  readonly element: HTMLElement;
  readonly #search = h("input", {
    type: "search",
    placeholder: words.search,
    "aria-label": words.search,
    spellcheck: "false",
    autocomplete: "off",
  });
  readonly #hint = h("span", { class: "unit" });
  readonly #body = h("tbody");
  readonly #nothing = h("p", { class: "hint", role: "status", hidden: true });
  #rows: Row[] = [];
  #order = "";
  #selected: string | null = null;

  constructor(readonly choose: (id: string) => void) {
    const { columns } = words;
    this.element = h(
      "section",
      { class: "block ranking", "aria-label": words.ranked },
      h("h2", {}, words.ranked, this.#hint),
      this.#search,
      h(
        "div",
        { class: "scroll" },
        h(
          "table",
          { "data-part": "ranking" },
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", { scope: "col" }, columns.rank),
              h("th", { scope: "col" }, columns.name),
              h("th", { scope: "col", class: "figure" }, `${columns.now} %`),
              h("th", { scope: "col", class: "figure" }, `${columns.peak} %`),
            ),
          ),
          this.#body,
        ),
        this.#nothing,
      ),
    );
    this.#search.addEventListener("input", () => this.#filter());
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  setRanking(ranked: readonly Ranked[], days: number): void {
    const order = ranked.map((r) => `${r.transformer.id}:${r.peakPercent}`).join();
    if (order === this.#order) return;
    this.#order = order;
    this.#hint.textContent = words.rankedHint(days);
    const focused = document.activeElement?.closest("tr")?.dataset["id"];
    this.#rows = ranked.map((entry, i) => this.#row(entry, i + 1));
    this.#body.replaceChildren(...this.#rows.map((row) => row.element));
    this.#filter();
    this.setSelected(this.#selected);
    if (focused) this.#rows.find((row) => row.id === focused)?.button.focus();
  }

  setNow(at: (id: string) => number | null): void {
    for (const row of this.#rows) {
      const value = at(row.id);
      row.now.textContent = value === null ? "–" : number(value, 0);
      paint(row.now, value);
    }
  }

  setSelected(id: string | null): void {
    this.#selected = id;
    for (const row of this.#rows) {
      row.element.classList.toggle("selected", row.id === id);
      if (row.id === id) row.button.setAttribute("aria-current", "true");
      else row.button.removeAttribute("aria-current");
    }
  }

  #row({ transformer, peakPercent }: Ranked, rank: number): Row {
    const button = h("button", { type: "button" }, transformer.name);
    const now = h("td", { class: "figure" });
    const peak = h("td", { class: "figure" }, peakPercent === null ? "–" : number(peakPercent, 0));
    paint(peak, peakPercent);
    const element = h(
      "tr",
      { "data-id": transformer.id },
      h("td", {}, String(rank)),
      h("th", { scope: "row" }, button, h("span", { class: "unit" }, words.rating(transformer.rated_kva))),
      now,
      peak,
    );
    element.addEventListener("click", () => this.choose(transformer.id));
    const text = `${transformer.name} ${transformer.id}`.toLowerCase();
    return { element, button, now, id: transformer.id, text };
  }

  #filter(): void {
    const wanted = this.#search.value.trim().toLowerCase();
    let found = 0;
    for (const row of this.#rows) {
      row.element.hidden = !row.text.includes(wanted);
      if (!row.element.hidden) found++;
    }
    this.#nothing.hidden = found > 0 || this.#rows.length === 0;
    this.#nothing.textContent = words.nothingFound(this.#search.value.trim());
  }

  /** Up and down move through the list from the search field on; Enter opens. */
  #key(event: KeyboardEvent): void {
    if (event.key === "Enter" && event.target === this.#search) {
      const first = this.#rows.find((row) => !row.element.hidden);
      if (first) this.choose(first.id);
      return;
    }
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const visible = this.#rows.filter((row) => !row.element.hidden);
    const at = visible.findIndex((row) => row.button === document.activeElement);
    const next = at + (event.key === "ArrowDown" ? 1 : -1);
    if (next < 0) this.#search.focus();
    else visible[Math.min(next, visible.length - 1)]?.button.focus();
    event.preventDefault();
  }
}

function paint(cell: HTMLElement, value: number | null): void {
  const found = classOf(TRANSFORMER_SCALE, value);
  const colour = found === NO_DATA ? null : TRANSFORMER_COLOURS[found];
  cell.style.color = found >= 2 && colour ? css(colour) : "";
  cell.classList.toggle("over", found === 3);
}
