// A client of upload-coordinator for browsers. It does not depend on the page, a framework or a
// build step: copy it and adapt it.
//
//   const track = await createTrack({ title: "Blue in Green", artist_name: "Miles Davis" });
//   const upload = await uploadFile(file, { trackId: track.id, onProgress: console.log });
//   if (upload.status === "uploaded") player.src = fileUrl(track.id);
//   else console.warn(upload.status, upload.reason);        // "rejected", "content-mismatch"
//
// To pause, abort the `signal`. To continue, call `uploadFile` again with the upload's `id`.
//
// A page without an account gets an upload token from its back end:
//   connect({ api: "http://127.0.0.1:8080/api", token: "upt_..." });
//   connect({ api: "http://127.0.0.1:8080/t/upt_.../api" });       // the same, without headers

let API = "/api";           // the address of the service
let TOKEN;                  // sent as a bearer token, if there is one
const PARTS_AT_ONCE = 3;    // of one file; a browser opens at most six connections to a host
const FILES_AT_ONCE = 3;    // of many files
const BATCH = 100;          // uploads that one request creates
const URLS_AT_ONCE = 8;     // part URLs are requested when they are needed, not all at the start
const TRIES = 4;            // of each request
const FIRST_PAUSE = 500;    // milliseconds before the second attempt, then twice as long each time

/** An error of the service: a problem document (RFC 9457). */
export class Problem extends Error {
  constructor(status, { type, title, detail, errors = {} }) {
    super(Object.values(errors).flat().join(" · ") || detail || title || `HTTP ${status}`);
    Object.assign(this, { name: "Problem", status, type, errors });
  }
}

/** An error of the store. Status 0 is a broken connection. */
export class StoreError extends Error {
  constructor(status) {
    super(status ? `The store returned ${status}` : "The connection to the store broke");
    Object.assign(this, { name: "StoreError", status });
  }
}

/** Sets the address of the service, and the API key, JWT or upload token. */
export function connect({ api = "/api", token } = {}) {
  API = api.replace(/\/$/, "");
  TOKEN = token;
}

export const createTrack = (track, signal) => call("POST", "/tracks", track, signal);
export const changeTrack = (id, changes) => call("PATCH", `/tracks/${id}`, changes);
export const fileUrl = (trackId) => `${API}/tracks/${trackId}/file`;
export const getUpload = (id, signal) => call("GET", `/uploads/${id}`, undefined, signal);
export const cancelUpload = (id) => call("DELETE", `/uploads/${id}`);

/** Whether bytes may still be sent. */
export const isOpen = (upload) => ["pending", "expired"].includes(upload.status);

/**
 * Uploads a file and waits for the result: its `status` is `uploaded`, or `rejected` with a
 * `reason`. Throws if it can't continue; then call it again with `id`.
 *
 * trackId     the track that the file is for
 * id          the id of an unfinished upload: only the missing parts are sent
 * signal      an AbortSignal: stops sending, and keeps the parts that were sent
 * onUpload    (upload): the upload was created; keep its `id` to continue after an interruption
 * onProgress  (bytes sent, total bytes)
 * onRetry     (error): something failed and is retried automatically
 */
export async function uploadFile(file, options = {}) {
  const { id, signal, onUpload } = options;
  const upload = id
    ? await persist(() => reopen(id, signal), options)
    : await call("POST", "/uploads", declared(file, options), signal);
  onUpload?.(upload);
  return sendFile(file, upload, options);
}

/**
 * Uploads many files; one request creates up to 100 uploads. Resolves to one result for each file,
 * in their order, as `Promise.allSettled` does: `{status: "fulfilled", value: upload}` or
 * `{status: "rejected", reason: error}`. The options are those of `uploadFile` without `id`, and the
 * callbacks get the file as their last argument.
 */
export async function uploadFiles(files, options = {}) {
  const ends = [];
  for (let from = 0; from < files.length; from += BATCH) {
    const some = Array.from(files).slice(from, from + BATCH);
    const uploads = some.map((file) => declared(file, options));
    const { results } = await call("POST", "/uploads/batch", { uploads }, options.signal);
    const one = async (file, { status, upload, problem }) => {
      if (!upload) throw new Problem(status, problem);
      const of = (callback) => callback && ((...args) => callback(...args, file));
      const { onUpload, onProgress, onRetry } = options;
      onUpload?.(upload, file);
      return sendFile(file, upload, { ...options, onProgress: of(onProgress), onRetry: of(onRetry) });
    };
    const queue = some.entries();   // shared by the workers
    const worker = async () => {
      for (const [n, file] of queue) {
        [ends[from + n]] = await Promise.allSettled([one(file, results[n])]);
      }
    };
    await Promise.all(Array.from({ length: FILES_AT_ONCE }, worker));
  }
  return ends;
}

/** The declared values of a file. They are signed and enforced. */
const declared = (file, { trackId }) => ({
  track_id: trackId,
  filename: file.name,
  content_type: file.type || undefined,
  size: file.size,                             // large ones are sent in parts
});

/** Sends the missing bytes, and waits for the result. */
async function sendFile(file, upload, options) {
  if (!isOpen(upload)) return upload;
  if (upload.multipart) await sendParts(file, upload, options);
  else await sendWhole(file, upload, options);
  return verdict(upload, options);
}

/** One presigned PUT. */
async function sendWhole(file, upload, options) {
  const { signal, onProgress } = options;
  await persist(async (tries) => {
    if (tries > 1) {
      // The attempt before may have succeeded without a response, or its URL has expired.
      const found = await arrived(upload, signal);
      if (found && !isOpen(found)) return;
      upload = await reopen(upload.id, signal);
      if (!isOpen(upload)) return;
    }
    try {
      await send(upload.request, file, signal, (sent) => onProgress?.(sent, file.size));
    } catch (error) {
      if (error.status !== 412) throw error;   // the URL can be used once, and was used
    }
  }, options);
}

/** Sends several parts at a time. Parts that the store already has are not sent again. */
async function sendParts(file, upload, options) {
  const { signal, onProgress } = options;
  const { part_size, part_count } = upload.multipart;
  const path = `/uploads/${upload.id}/parts`;
  const sign = async (part_numbers) =>
    (await persist(() => call("POST", path, { part_numbers }, signal), options)).parts;

  const held = await persist(() => call("GET", path, undefined, signal), options);
  const sent = new Map(held.parts.map((part) => [part.part_number, part.size]));
  const missing = Array.from({ length: part_count }, (_, i) => i + 1).filter((n) => !sent.has(n));
  const report = (number, bytes) => {
    sent.set(number, bytes);
    onProgress?.([...sent.values()].reduce((sum, bytes) => sum + bytes, 0), file.size);
  };
  if (sent.size > 0) report(...sent.entries().next().value);

  async function* signedParts() {
    while (missing.length > 0) yield* await sign(missing.splice(0, URLS_AT_ONCE));
  }
  // All workers share one queue. If one fails, the others finish their current part and stop.
  const queue = signedParts();
  const worker = async () => {
    for await (let part of queue) {
      const number = part.part_number;
      const bytes = file.slice((number - 1) * part_size, number * part_size);
      await persist(async (tries) => {
        if (tries > 1) [part] = await sign([number]);   // the URL may have expired
        await send(part, bytes, signal, (sent) => report(number, sent));
      }, options);
      report(number, bytes.size);
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: PARTS_AT_ONCE }, worker));
  const failed = ends.find((end) => end.status === "rejected");
  if (failed) throw failed.reason;
}

/** Makes the service verify the file, and waits for the result. */
async function verdict({ id, multipart }, options) {
  const { signal } = options;
  let upload = await persist(() => arrived({ id, multipart }, signal), options);
  while (!upload || ["pending", "inspecting"].includes(upload.status)) {
    // Returns when there is a result, or after 30 seconds.
    upload = await persist(() => call("GET", `/uploads/${id}?wait=30`, undefined, signal), options);
  }
  return upload;
}

/** Makes the service look for the file. Returns nothing if the store does not have it. */
async function arrived({ id, multipart }, signal) {
  const path = `/uploads/${id}/${multipart ? "complete" : "confirm"}`;
  try {
    return await call("POST", path, undefined, signal);
  } catch (error) {
    if (error.type !== "/problems/not-arrived") throw error;
    return undefined;
  }
}

/** Requests a new URL if the upload is still open. An ended upload is returned unchanged. */
async function reopen(id, signal) {
  const upload = await getUpload(id, signal);
  return isOpen(upload) ? call("POST", `/uploads/${id}/presign`, undefined, signal) : upload;
}

/** Calls the service. */
async function call(method, path, body, signal) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  if (TOKEN) headers.Authorization = `Bearer ${TOKEN}`;
  const response = await fetch(API + path, {
    method, headers, signal, body: body && JSON.stringify(body),
  });
  if (response.status === 204) return undefined;
  const json = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, json);
  return json;
}

/** Sends bytes to the store with exactly the signed headers. (`fetch` does not report progress.) */
function send({ method, url, headers }, bytes, signal, onBytes) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onBytes(event.loaded);
    request.onload = () =>
      request.status < 300 ? resolve() : reject(new StoreError(request.status));
    request.onerror = () => reject(new StoreError(0));
    request.onabort = () => reject(signal.reason);
    request.onloadend = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort);
    request.send(bytes);
  });
}

/** Retries temporary errors: a broken connection, a server error, an expired URL. */
async function persist(attempt, { signal, onRetry }) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await attempt(tries);
    } catch (error) {
      const refused = error instanceof Problem && error.status < 500 && error.status !== 429;
      if (refused || signal?.aborted || tries === TRIES) throw error;
      onRetry?.(error);
      const pause = FIRST_PAUSE * 2 ** (tries - 1) * (0.75 + Math.random() / 2);
      await new Promise((resolve) => {
        setTimeout(resolve, pause);
        signal?.addEventListener("abort", resolve, { once: true });
      });
      signal?.throwIfAborted();
    }
  }
}
