/**
 * The cells as one WebGL 2 draw call inside MapLibre's map. Geometry goes to the GPU once;
 * a move of the slider writes one byte per cell (its class) into a texture.
 *
 * Positions are kept relative to an origin that is folded into the matrix in doubles:
 * Mercator 0..1 in float32 is coarser than a house.
 */
import { MercatorCoordinate, type CustomLayerInterface, type CustomRenderMethodInput, type Map } from "maplibre-gl";
import type { Cell } from "./api";
import { NO_DATA, type Rgb } from "./scale";

const TEXTURE_WIDTH = 256;
const MOST_CLASSES = 8;
const SHRINK = 0.955;

const VERTEX = `#version 300 es
uniform mat4 u_matrix;
uniform highp usampler2D u_classes;
uniform vec4 u_colours[${MOST_CLASSES}];
in vec2 a_place;
in float a_cell;
flat out vec4 v_colour;
flat out float v_hatch;
void main() {
  int cell = int(a_cell);
  uint found = texelFetch(u_classes, ivec2(cell % ${TEXTURE_WIDTH}, cell / ${TEXTURE_WIDTH}), 0).r;
  v_hatch = found == ${NO_DATA}u ? 1.0 : 0.0;
  v_colour = u_colours[found == ${NO_DATA}u ? 0u : min(found, ${MOST_CLASSES - 1}u)];
  gl_Position = u_matrix * vec4(a_place, 0.0, 1.0);
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
uniform float u_ratio;
flat in vec4 v_colour;
flat in float v_hatch;
out vec4 colour;
void main() {
  if (v_hatch > 0.5) {
    float stripe = mod((gl_FragCoord.x + gl_FragCoord.y) / u_ratio, 7.0);
    float alpha = stripe < 1.3 ? 0.62 : 0.16;
    colour = vec4(vec3(0.48, 0.53, 0.58) * alpha, alpha);
  } else {
    colour = vec4(v_colour.rgb * v_colour.a, v_colour.a);
  }
}`;

export class CellsLayer implements CustomLayerInterface {
  readonly id = "cells";
  readonly type = "custom" as const;
  readonly renderingMode = "2d" as const;
  #map: Map | null = null;
  #program: WebGLProgram | null = null;
  #vertices: WebGLVertexArrayObject | null = null;
  #texture: WebGLTexture | null = null;
  #indexCount = 0;
  #stale = true;
  #origin = { x: 0, y: 0 };
  readonly #classes: Uint8Array;
  readonly #rows: number;
  readonly #colours = new Float32Array(4 * MOST_CLASSES);

  constructor(readonly cells: readonly Cell[]) {
    this.#rows = Math.max(1, Math.ceil(cells.length / TEXTURE_WIDTH));
    this.#classes = new Uint8Array(TEXTURE_WIDTH * this.#rows).fill(NO_DATA);
  }

  setColours(colours: readonly Rgb[]): void {
    colours.slice(0, MOST_CLASSES).forEach((c, i) => {
      this.#colours.set([c[0] / 255, c[1] / 255, c[2] / 255, i === 0 ? 0.8 : 0.93], 4 * i);
    });
    this.#map?.triggerRepaint();
  }

  /** One class per cell; writes only what the texture holds. */
  setClasses(classOfCell: (cell: number) => number): void {
    for (let i = 0; i < this.cells.length; i++) this.#classes[i] = classOfCell(i);
    this.#stale = true;
    this.#map?.triggerRepaint();
  }

  onAdd(map: Map, gl: WebGL2RenderingContext): void {
    this.#map = map;
    this.#program = link(gl);
    this.#texture = gl.createTexture();
    this.#vertices = gl.createVertexArray();
    this.#fillBuffers(gl);
    this.#stale = true;
  }

  onRemove(): void {
    this.#map = null;
  }

  render(gl: WebGL2RenderingContext, input: CustomRenderMethodInput): void {
    if (!this.#program || this.#indexCount === 0) return;
    gl.useProgram(this.#program);
    const at = (name: string) => gl.getUniformLocation(this.#program!, name);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.#texture);
    if (this.#stale) this.#writeTexture(gl);
    gl.uniform1i(at("u_classes"), 0);
    gl.uniform1f(at("u_ratio"), window.devicePixelRatio || 1);
    gl.uniform4fv(at("u_colours"), this.#colours);
    gl.uniformMatrix4fv(at("u_matrix"), false, this.#matrix(input));
    gl.disable(gl.DEPTH_TEST);
    gl.disable(gl.STENCIL_TEST);
    gl.disable(gl.CULL_FACE);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.bindVertexArray(this.#vertices);
    gl.drawElements(gl.TRIANGLES, this.#indexCount, gl.UNSIGNED_INT, 0);
    gl.bindVertexArray(null);
  }

  #matrix(input: CustomRenderMethodInput): Float32Array {
    const m = Float64Array.from(input.defaultProjectionData.mainMatrix as ArrayLike<number>);
    const { x, y } = this.#origin;
    for (let row = 0; row < 4; row++) m[12 + row]! += m[row]! * x + m[4 + row]! * y;
    return Float32Array.from(m);
  }

  #writeTexture(gl: WebGL2RenderingContext): void {
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.pixelStorei(gl.UNPACK_FLIP_Y_WEBGL, false);
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8UI, TEXTURE_WIDTH, this.#rows, 0, gl.RED_INTEGER,
      gl.UNSIGNED_BYTE, this.#classes);
    // Integer textures read as zero, without any error, unless both filters are NEAREST.
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    this.#stale = false;
  }

  #fillBuffers(gl: WebGL2RenderingContext): void {
    const places: number[] = [];
    const indices: number[] = [];
    const first = this.cells[0]?.ring[0] ?? [0, 0];
    const origin = MercatorCoordinate.fromLngLat({ lng: first[0], lat: first[1] });
    this.#origin = { x: origin.x, y: origin.y };
    this.cells.forEach((cell, index) => {
      const ring = cell.ring.slice(0, -1).map(([lng, lat]) => {
        const m = MercatorCoordinate.fromLngLat({ lng, lat });
        return [m.x - origin.x, m.y - origin.y] as const;
      });
      const mx = ring.reduce((sum, p) => sum + p[0], 0) / ring.length;
      const my = ring.reduce((sum, p) => sum + p[1], 0) / ring.length;
      const start = places.length / 3;
      for (const [x, y] of ring) {
        places.push(mx + (x - mx) * SHRINK, my + (y - my) * SHRINK, index);
      }
      for (let i = 1; i + 1 < ring.length; i++) indices.push(start, start + i, start + i + 1);
    });
    gl.bindVertexArray(this.#vertices);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(places), gl.STATIC_DRAW);
    const place = gl.getAttribLocation(this.#program!, "a_place");
    const cell = gl.getAttribLocation(this.#program!, "a_cell");
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, 2, gl.FLOAT, false, 12, 0);
    gl.enableVertexAttribArray(cell);
    gl.vertexAttribPointer(cell, 1, gl.FLOAT, false, 12, 8);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint32Array(indices), gl.STATIC_DRAW);
    gl.bindVertexArray(null);
    this.#indexCount = indices.length;
  }
}

function link(gl: WebGL2RenderingContext): WebGLProgram {
  const program = gl.createProgram();
  for (const [kind, source] of [
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, FRAGMENT],
  ] as const) {
    const shader = gl.createShader(kind);
    if (!shader) throw new Error("the graphics context is lost");
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    throw new Error(`the cells' shader does not link: ${gl.getProgramInfoLog(program)}`);
  }
  return program;
}
