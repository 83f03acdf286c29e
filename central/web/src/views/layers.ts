/** Which layer is shown (a radio group) and its legend, which never changes with time. */
import type { LayerInfo } from "../api";
import { h } from "../dom";
import {
  classLabels,
  css,
  TRANSFORMER_COLOURS,
  TRANSFORMER_SCALE,
  type Rgb,
  type Scale,
} from "../scale";
import { words } from "../words";

export class Layers {
  readonly element: HTMLElement;
  readonly #choices = h("fieldset", { class: "layers" }, h("legend", {}, words.layer));
  readonly #legend = h("section", { class: "legend", "aria-label": "Legend" });
  #shown = "";

  constructor(readonly choose: (layer: string) => void) {
    this.element = h("div", { class: "block" }, this.#choices, this.#legend);
  }

  setLayers(layers: readonly LayerInfo[]): void {
    const key = layers.map((l) => l.id + l.title).join();
    if (key === this.#shown) return;
    this.#shown = key;
    const options = layers.map((layer) => {
      const input = h("input", { type: "radio", name: "layer", value: layer.id });
      input.addEventListener("change", () => this.choose(layer.id));
      return h(
        "label",
        { title: layer.description },
        input,
        h("span", { class: "layer-title" }, layer.title),
        h("span", { class: "unit" }, layer.unit),
      );
    });
    this.#choices.replaceChildren(h("legend", {}, words.layer), ...options);
  }

  select(layer: LayerInfo, scale: Scale): void {
    for (const input of this.#choices.querySelectorAll("input")) {
      input.checked = input.value === layer.id;
    }
    this.#legend.replaceChildren(
      h("p", { class: "description" }, layer.description),
      h(
        "h2",
        {},
        layer.title,
        h("span", { class: "unit" }, layer.unit),
      ),
      h(
        "ul",
        { class: "classes", "data-part": "legend" },
        ...classLabels(scale).map((text, i) => entry("hex", scale.colours[i]!, text)),
        h("li", {}, h("i", { class: "swatch hex nodata" }), words.noDataLegend),
      ),
      h("h2", {}, words.legendTransformer, h("span", { class: "unit" }, words.legendTransformerUnit)),
      h(
        "ul",
        { class: "classes" },
        ...classLabels(TRANSFORMER_SCALE).map((text, i) =>
          entry(i === 3 ? "disc over" : "disc", TRANSFORMER_COLOURS[i]!, text),
        ),
      ),
      h("p", { class: "hint" }, `${words.legendFixed}. ${words.areaHint}.`),
    );
  }
}

function entry(shape: string, colour: Rgb, text: string): HTMLLIElement {
  const swatch = h("i", { class: `swatch ${shape}` });
  swatch.style.setProperty("--swatch", css(colour));
  return h("li", {}, swatch, text);
}
