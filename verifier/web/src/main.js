// Node runs the verification alone; a browser draws the page too.

import { judgeBundle } from "./api.js";
import { App } from "./ui/app.js";

globalThis.quotary = Object.freeze({ judgeBundle });

if (typeof document !== "undefined") new App(document.querySelector("main")).start();
