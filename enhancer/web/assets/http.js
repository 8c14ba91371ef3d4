// Calls of the service that this page came from.

export const base = new URL(".", location.href);

// An answer that is an error; `message` is a sentence for people.
export class Problem extends Error {
  constructor(status, { detail, errors = [] }) {
    const wrong = errors.map(({ field, message }) => `${field}: ${message}`);
    super([detail, ...wrong].join(" "));
    this.status = status;
  }
}

// The JSON of an answer. Throws a Problem.
export async function ask(path, options) {
  let response;
  try {
    response = await fetch(new URL(path, base), options);
  } catch {
    throw new Problem(0, { detail: "The service cannot be reached." });
  }
  const body = await response.json().catch(() => ({ detail: `The service answered ${response.status}.` }));
  if (!response.ok) throw new Problem(response.status, body);
  return body;
}
