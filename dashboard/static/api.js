// The only module that fetches. Errors carry a sentence for the reader.

export class ApiError extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function answerOf(response) {
  if (response.ok) return response.status === 204 ? null : response.json();
  let sentence = `the server answered with ${response.status}`;
  try {
    sentence = (await response.json()).problem ?? sentence;
  } catch {
    // not JSON: keep the status
  }
  throw new ApiError(response.status, sentence);
}

export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value === undefined || value === null || value === "" || value === false) continue;
    for (const one of Array.isArray(value) ? value : [value]) query.append(name, one);
  }
  const text = query.toString();
  return ask(text ? `${path}?${text}` : path, { signal });
}

async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "the server does not answer; the page goes on when `lapwing dashboard` runs again");
  }
  return answerOf(response);
}

export async function send(method, path, document = undefined) {
  const headers = { "Content-Type": "application/json" };
  const body = document === undefined ? undefined : JSON.stringify(document);
  return ask(path, { method, headers, body });
}

export const signIn = (token) => send("POST", "/v1/session", { token });
