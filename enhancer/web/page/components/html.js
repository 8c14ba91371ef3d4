// Components are written as tagged templates, which need no build step.

import htm from "htm";
import { h } from "preact";

export const html = htm.bind(h);

// Class names, of those that hold.
export const names = (...names) => names.filter(Boolean).join(" ");
