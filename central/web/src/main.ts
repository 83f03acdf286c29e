import "maplibre-gl/dist/maplibre-gl.css";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { App } from "./app";

const app = new App(document.body);
void app.start();
