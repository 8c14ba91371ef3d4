// What the page says, in the language that the server chose from the browser's wishes or the cookie.

const COOKIE = "language";

/** The languages of the page, by their own names. */
export const LANGUAGES = { en: "English", zh: "中文" };

/** @type {Record<string, string>} */
let strings = {};

export const language = () => document.documentElement.lang;

/** Load one language, and no other. @param {string} name */
export async function speak(name) {
  strings = (await import(`./${name}.js`)).default;
  document.documentElement.lang = name;
}

/** Speak it from now on, on later visits too. @param {string} name */
export async function choose(name) {
  await speak(name);
  document.cookie = `${COOKIE}=${name}; path=/; max-age=31536000; samesite=lax`;
}

/**
 * A text of the page, with what stands in its {braces}.
 * @param {string} key
 * @param {Record<string, string | number>} [words]
 */
export const t = (key, words = {}) => (strings[key] ?? key).replace(/\{(\w+)\}/g, (_, word) => String(words[word]));

/** An error as a sentence: ours where we have one, else the service's own. @param {{code?: string, message: string}} error */
export const sentence = ({ code, message }) => strings[`error.${code}`] ?? message;

/** Minutes and seconds, such as 1:05. @param {number} seconds */
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** When it was, as people write it. @param {string} iso */
export const date = (iso) => new Date(iso).toLocaleString(language(), { dateStyle: "medium", timeStyle: "short" });
