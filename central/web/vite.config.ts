import { defineConfig } from "vite";

// Everything is a file of our own origin: no inlined assets (the page's policy forbids
// data: scripts), a worker as an ES module, no source maps in what ships.
export default defineConfig({
  base: "/",
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    chunkSizeWarningLimit: 1600,
  },
  worker: { format: "es" },
  optimizeDeps: { exclude: ["maplibre-gl"] },
});
