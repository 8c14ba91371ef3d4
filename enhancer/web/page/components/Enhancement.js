// An enhancement on its way and as a result.

import { useEffect, useState } from "react";
import { html } from "./html.js";
import { Compare } from "./Compare.js";
import { useUrl } from "./PhotoForm.js";
import { Failure, Progress } from "./Progress.js";
import { clock, t } from "../i18n/language.js";
import { here } from "../lib/api/client.js";
import { openFile } from "../lib/api/services.js";
import { isFinal } from "../lib/hooks/stream.js";

export function Enhancement({ task, stream, onRetry, onChange, say }) {
  const original = useOriginal(task.original_image_path);
  if (!isFinal(task)) {
    const { preview, script, progress } = stream;
    return html`<section class="card" aria-labelledby="stage">
      <h2 id="stage" tabindex="-1">${t("enhancing")}</h2>
      <${Progress} kind="enhancement" task=${task} stream=${stream} value=${progress} label=${`${progress}%`}
        mark=${(event) => `${event.progress}%`} say=${say}>
        <div class="canvas">
          ${original && html`<img class="waiting" src=${original} alt=${t("before")} />`}
          ${preview && html`<img key=${preview.image_url} src=${here(preview.image_url)} alt=${t("partial")} />`}
        </div>
        ${script && html`<div class="written" lang=${task.language}>${script}</div>`}
      <//>
    </section>`;
  }
  return html`<section class="card" aria-labelledby="stage">
    <h2 id="stage" tabindex="-1">${t(task.status === "completed" ? "ready" : "photo")}</h2>
    ${task.status === "completed"
      ? html`<${Result} task=${task} original=${original} />`
      : html`<${Failure} task=${task} onRetry=${onRetry}>
          <button class="quiet" onClick=${onChange}>${t("change")}</button>
        <//>`}
  </section>`;
}

function Result({ task, original }) {
  const image = here(task.enhanced_image_url ?? "");
  return html`
    <${Compare} before=${original} after=${image} />
    <${Downloads} links=${[
      [t("downloadImage"), image, `enhanced-${task.id}`],
      [t("before"), original, `original-${task.id}`],
      [t("downloadScript"), useText(task.script ?? ""), `script-${task.id}.txt`],
    ]} />
    <h3>${t("analysis")}</h3>
    <p class="prose" lang=${task.language}>${task.product_analysis}</p>
    <${Facts} facts=${[
      [t("time"), clock(task.processing_time ?? 0)],
      [t("tokens"), task.tokens_used],
      [t("imageModel"), model(task.image_model)],
      [t("scriptModel"), model(task.script_model)],
    ]} />`;
}

export const Facts = ({ facts }) => html`<dl class="facts">
  ${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
</dl>`;

// Name, address and file name of each.
export const Downloads = ({ links }) => html`<p class="actions downloads">
  <span>${t("downloads")}</span>
  ${links.map(([name, href, file]) => href && html`<a key=${file} class="small" href=${href} download=${file}>${name}</a>`)}
</p>`;

export const model = (name) => (name === "offline-studio" ? t("offline") : name);

// The address of an original, which asks for the account.
function useOriginal(path) {
  const [blob, setBlob] = useState(null);
  useEffect(() => {
    let wanted = true;
    setBlob(null);
    openFile(path).then((found) => wanted && setBlob(found), () => {}); // then there is nothing to compare with
    return () => {
      wanted = false;
    };
  }, [path]);
  return useUrl(blob);
}

// The address of a text.
function useText(text) {
  const [blob, setBlob] = useState(null);
  useEffect(() => setBlob(new Blob([text], { type: "text/plain;charset=utf-8" })), [text]);
  return useUrl(blob);
}
