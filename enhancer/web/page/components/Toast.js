// A short word on what has just happened.

import { useEffect } from "react";
import { html } from "./html.js";
import { t } from "../i18n/language.js";

const TIME = 7000; // milliseconds that it stays

export function Toast({ text, onClose }) {
  useEffect(() => {
    if (!text) return undefined;
    const timer = setTimeout(onClose, TIME);
    return () => clearTimeout(timer);
  }, [text]);
  return html`<div class="toasts" role="status">
    ${text && html`<p class="toast">${text} <button class="quiet" aria-label=${t("close")} onClick=${onClose}>×</button></p>`}
  </div>`;
}
