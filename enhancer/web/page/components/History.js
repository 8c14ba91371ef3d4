// What the user has made: look at it again, try again, delete.

import { useState } from "react";
import { html, names } from "./html.js";
import { date, sentence, t } from "../i18n/language.js";
import { here } from "../lib/api/client.js";
import { isFinal } from "../lib/hooks/stream.js";
import { KINDS } from "../state/tasks.js";
import { changed } from "../state/tabs.js";

export function History({ history, signedIn, open, onOpen, onDeleted, say }) {
  const { items, problem, more, load, showMore } = history;
  return html`<section class="history" aria-labelledby="history">
    <h2 id="history" tabindex="-1">${t("history")}</h2>
    ${problem && html`<p class="notice bad" role="alert">${t("historyFailed")} ${sentence(problem)}
      <button class="small" onClick=${load}>${t("retry")}</button></p>`}
    ${!signedIn && html`<p class="nothing">${t("historySignedOut")}</p>`}
    ${signedIn && !items && !problem && html`<p class="nothing">${t("loading")}</p>`}
    ${items?.length === 0 && html`<p class="nothing">${t("historyEmpty")}</p>`}
    ${items?.length > 0 && html`<ul class="works">
      ${items.map((item) => html`<${Work} key=${item.kind + item.id} item=${item}
        current=${open[item.kind] === item.id} onOpen=${onOpen} onDeleted=${onDeleted} say=${say} />`)}
    </ul>`}
    ${more && items && html`<button class="small" onClick=${showMore}>${t("more")}</button>`}
  </section>`;
}

function Work({ item, current, onOpen, onDeleted, say }) {
  const [sure, setSure] = useState(false);
  const { retry, remove, cancel } = KINDS[item.kind];
  const act = (action, told) =>
    action(item.id).then(
      () => {
        say(told);
        if (action === remove) onDeleted(item);
        changed(action === remove ? item.kind + item.id : "");
      },
      (problem) => say(sentence(problem)),
    );
  const title = (item.kind === "video" ? item.prompt : item.user_description).replace(/^\[.*?\]\s*/, "").trim().split("\n")[0] || t("untitled");
  const ended = isFinal(item);
  return html`<li class=${names("work", current && "current")}>
    <button class="open" aria-current=${current} onClick=${() => onOpen(item)}>
      <span class="thumb">
        ${item.thumbnail_url ? html`<img src=${here(item.thumbnail_url)} alt="" loading="lazy" />` : null}
        <span class="kind">${t(item.kind === "video" ? "isVideo" : "isPhoto")}</span>
      </span>
      <span class="title">${title}</span>
      <span class="about"><span class=${`status ${item.status}`}>${t(`status.${item.status}`)}</span> · ${date(item.created_at)}</span>
    </button>
    <div class="actions">
      ${ended && item.status !== "completed" && html`<button class="quiet" onClick=${() => act(retry, t("retried"))}>${t("retry")}</button>`}
      ${ended
        ? html`<button class=${names("quiet", sure && "bad")} onBlur=${() => setSure(false)}
            onClick=${() => (sure ? act(remove, t("deleted")) : setSure(true))}>${t(sure ? "reallyDelete" : "delete")}</button>`
        : html`<button class="quiet" onClick=${() => act(cancel, t("cancelling"))}>${t("cancel")}</button>`}
    </div>
  </li>`;
}
