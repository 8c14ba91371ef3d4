// Before and after, one above the other, with a handle between them.

import { useState } from "react";
import { html } from "./html.js";
import { t } from "../i18n/language.js";

export function Compare({ before, after }) {
  const [share, setShare] = useState(50);
  const [shape, setShape] = useState("");
  const loaded = ({ target }) => setShape(`${target.naturalWidth} / ${target.naturalHeight}`);
  return html`<div class="compare" style=${{ "--share": `${100 - share}%`, aspectRatio: shape || "16 / 9" }}>
    <img src=${after} alt=${t("after")} onLoad=${loaded} />
    ${before && html`<img class="top" src=${before} alt=${t("before")} />`}
    ${before && html`<span class="tag" aria-hidden="true">${t("before")}</span><span class="tag right" aria-hidden="true">${t("after")}</span>
      <span class="handle" aria-hidden="true"></span>
      <input type="range" min="0" max="100" value=${share} aria-label=${t("compare")} aria-valuetext=${`${share} %`}
        onInput=${(event) => setShare(Number(event.target.value))} />`}
  </div>`;
}
