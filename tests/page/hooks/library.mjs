// The hooks import `react`: what that is, the variable REACT says, `react` itself or the page's own Preact.

import { register } from "node:module";

register("./resolve.mjs", import.meta.url);
