// How far a task is: the same for both kinds.

import { useEffect, useState } from "react";
import { html, names } from "./html.js";
import { clock, sentence, t } from "../i18n/language.js";
import { now } from "../lib/api/client.js";
import { KINDS } from "../state/tasks.js";

export function Progress({ kind, task, stream, value, label, mark, say, children }) {
  const [cancelling, setCancelling] = useState(false);
  const { messages, lastMessage, isConnected } = stream;
  const message = lastMessage?.message || (task.status === "pending" ? t("waiting") : task.message) || t("loading");
  const cancel = async () => {
    setCancelling(true);
    await KINDS[kind].cancel(task.id).catch((problem) => {
      setCancelling(false);
      say(sentence(problem));
    });
  };
  return html`<div class="progress">
    <div class="state">
      <p class="message" role="status" lang=${task.language}>${message}</p>
      <span class="percent">${label}</span>
    </div>
    <progress max="100" value=${value} aria-label=${t("progress")}>${label}</progress>
    <div class="state small">
      <${Dot} on=${isConnected} before=${messages.length > 0} />
      <${Times} task=${task} event=${lastMessage} />
      <button class="small" disabled=${cancelling} onClick=${cancel}>${t(cancelling ? "cancelling" : "cancel")}</button>
    </div>
    ${children}
    ${messages.length > 0 && html`<ol class="log" aria-label=${t("latest")}>
      ${messages.slice(-5).map((event) => html`<li key=${event.timestamp + event.message}>
        <span>[${mark(event)}]</span> ${event.message}
      </li>`)}
    </ol>`}
  </div>`;
}

// Green: events come as they happen. Amber: they will.
function Dot({ on, before }) {
  return html`<span class=${names("dot", on && "on")}>${t(on ? "connected" : before ? "reconnecting" : "connecting")}</span>`;
}

function Times({ task, event }) {
  const [at, setAt] = useState(now);
  useEffect(() => {
    const timer = setInterval(() => setAt(now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const told = event ?? task;
  const since = told.timestamp ?? Date.parse(task.updated_at) / 1000;
  const left = told.eta_seconds == null ? null : told.eta_seconds - (at / 1000 - since);
  const parts = [t("elapsed", { time: clock((at - Date.parse(task.created_at)) / 1000) })];
  if (left !== null) parts.push(left < 2 ? t("soon") : t("left", { time: clock(left) }));
  if (told.queue_position) parts.push(t("queue", { n: told.queue_position }));
  return html`<span class="times">${parts.join(" · ")}</span>`;
}

// A task that has not ended well.
export function Failure({ task, onRetry, children }) {
  const failed = task.status === "failed";
  return html`<div class=${names("notice", failed && "bad")} role="alert">
    <p><b>${t(failed ? "failed" : "cancelled")}</b></p>
    <p lang=${failed ? task.language : null}>${failed ? task.error_message : t("cancelledText")}</p>
    <div class="actions">
      <button class="small" onClick=${onRetry}>${t("retry")}</button>
      ${children}
    </div>
  </div>`;
}
