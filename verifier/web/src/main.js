import { judgeBundle } from "./api.js";

globalThis.quotary = Object.freeze({ judgeBundle });
