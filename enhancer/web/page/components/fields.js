// Fields that both forms have.

import { html, names } from "./html.js";
import { t } from "../i18n/language.js";

export const LIMIT = 4000; // characters of a description

const LANGUAGES = { en: "English", zh: "中文", de: "Deutsch", es: "Español", fr: "Français", it: "Italiano", ja: "日本語", ko: "한국어", pt: "Português" };

// As the service counts: characters, not halves of them.
export const length = (text) => [...text].length;

export const Duration = ({ value, onChange }) => html`<fieldset class="choice">
  <legend>${t("duration")}</legend>
  ${[4, 8, 12].map((n) => html`<label key=${n}>
    <input type="radio" name="duration" value=${n} checked=${n === value} onChange=${() => onChange(n)} />
    <span>${t("seconds", { n })}</span>
  </label>`)}
</fieldset>`;

export const Language = ({ value, onChange }) => html`<label class="field">
  <span>${t("scriptLanguage")}</span>
  <select name="language" value=${value} onChange=${(event) => onChange(event.target.value)}>
    ${Object.entries(LANGUAGES).map(([tag, name]) => html`<option key=${tag} value=${tag} lang=${tag}>${name}</option>`)}
  </select>
</label>`;

// Text of some length, with a counter.
export function Words({ name, label, value, rows, lang, hint, placeholder, onInput }) {
  const count = length(value);
  const long = count > LIMIT;
  return html`<div class="field">
    <label for=${name}>${label}</label>
    <textarea id=${name} rows=${rows} lang=${lang} value=${value} placeholder=${placeholder} aria-invalid=${long}
      aria-describedby=${`${name}-count`} onInput=${(event) => onInput(event.target.value)}></textarea>
    <div class="under" id=${`${name}-count`}>
      <span>${long ? t("tooLong") : hint}</span>
      <span class=${names("count", long && "bad")}>${count} / ${LIMIT}</span>
    </div>
  </div>`;
}
