// How the service is spoken to: its address, the account token, and what its errors become.

/** @type {import("../types").Connection} */
const connection = { apiUrl: "/api/v1/", token: () => null, onUnauthenticated: () => {} };

let lead = 0; // milliseconds that the service's clock is ahead of this one

/** Say where the service is and who calls. @param {Partial<import("../types").Connection>} given */
export function configure(given) {
  Object.assign(connection, given);
}

/** What time it is at the service, in milliseconds since 1970. */
export const now = () => Date.now() + lead;

/** An answer that is an error: `code` is stable, `message` a sentence for people, `status` 0 when none came. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {{code?: string, detail?: string, errors?: {field: string, message: string}[]}} body
   * @param {number | null} [retryAfter] seconds
   */
  constructor(status, { code = "internal", detail = "", errors = [] }, retryAfter = null) {
    super([detail, ...errors.map(({ field, message }) => `${field}: ${message}`)].join(" "));
    this.name = "Problem";
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** Whether the same call may well succeed later. */
  get passing() {
    return !this.status || this.status === 429 || this.status >= 500;
  }
}

/**
 * An address under the service as we reach it: its links are made with the name in its own settings.
 * @param {string} link a path under the interface, or a link to a stream or a file
 */
export function here(link) {
  const base = new URL(String(connection.apiUrl).replace(/\/?$/, "/"), globalThis.document?.baseURI);
  const [, api, file] = /^(?:https?:\/\/[^/]+)?\/?(?:.*?(api\/v1\/.*)|.*?(uploads\/.*))$/.exec(link) ?? [];
  return new URL(api ? api.slice(7) : file ? `../../${file}` : link, base).href;
}

/**
 * The answer of a call, as it is. Throws a Problem.
 * @param {string} path
 * @param {{method?: string, json?: object, form?: FormData, headers?: Record<string, string>}} [options]
 * @returns {Promise<Response>}
 */
export async function fetched(path, { method = "GET", json, form, headers = {} } = {}) {
  const token = connection.token();
  /** @type {Record<string, string>} */
  const sent = token ? { Authorization: `Bearer ${token}`, ...headers } : { ...headers };
  if (json) sent["Content-Type"] = "application/json";
  const body = json ? JSON.stringify(json) : form;
  const response = await fetch(here(path), { method, headers: sent, body }).catch(() => {
    throw new Problem(0, { code: "unreachable", detail: "The service cannot be reached." });
  });
  lead = Date.parse(response.headers.get("Date") ?? "") - Date.now() || lead;
  if (response.ok) return response;
  const said = await response.json().catch(() => ({ detail: `The service answered ${response.status}.` }));
  const problem = new Problem(response.status, said, Number(response.headers.get("Retry-After")) || null);
  if (response.status === 401 && token) connection.onUnauthenticated(problem);
  throw problem;
}

/**
 * The JSON of an answer; null when it has none. Throws a Problem.
 * @param {Parameters<typeof fetched>} call
 * @returns {Promise<any>}
 */
export async function ask(...call) {
  const text = await (await fetched(...call)).text();
  return text ? JSON.parse(text) : null;
}
