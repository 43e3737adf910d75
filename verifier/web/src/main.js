// Node runs the verification alone; a browser draws the page too.

import * as api from "./api.js";
import { App } from "./ui/app.js";

globalThis.quotary = Object.freeze({ ...api });

if (typeof document !== "undefined") new App(document.querySelector("main")).start();
