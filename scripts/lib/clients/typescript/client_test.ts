// The test of the generated types in scripts/check-api: a track, an upload, the wait for its result, a
// direct upload, and an error with its type.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./schema";

const api = createClient<paths>({
  baseUrl: process.argv[2],
  headers: { authorization: `Bearer ${process.env.API_KEY}` },
});

/** The data of a response that must have succeeded. */
function ok<T>(result: { data?: T; error?: unknown; response: Response }): T {
  assert.ok(result.response.ok, JSON.stringify(result.error));
  return result.data as T;
}

// An MP3 of half a second of silence: 20 frames of MPEG 1 layer III.
const frame = new Uint8Array(417);
frame.set([0xff, 0xfb, 0x90, 0x64]);
const file = new Blob(Array.from({ length: 20 }, () => frame));

const track = ok(
  await api.POST("/api/tracks", { body: { title: "So What", artist_name: "Miles Davis" } }),
);
assert.equal(track.status, "empty");

const upload = ok(
  await api.POST("/api/uploads", {
    body: {
      track_id: track.id,
      filename: "so what.mp3",
      content_type: "audio/mpeg",
      size: file.size,
      strategy: "put",
    },
  }),
);
const request = upload.request;
assert.ok(request, "a new upload has a request");
const { method, url, headers } = request;
const put = await fetch(url, { method, headers, body: file });
assert.ok(put.ok, `the store responds with ${put.status}`);

const path = { id: upload.id };
const [waited, confirmed] = await Promise.all([
  api.GET("/api/uploads/{id}", { params: { path, query: { wait: 30 } } }),
  api.POST("/api/uploads/{id}/confirm", { params: { path } }),
]);
assert.equal(ok(waited).status, "uploaded");
// The compiler refuses a status that does not exist.
assert.ok(ok(confirmed).confirmed_by === "confirm" && ok(confirmed).reason === null);

const served = ok(
  await api.GET("/api/tracks/{id}/file", {
    params: { path: { id: track.id }, query: { redirect: false } },
  }),
);
const stored = await fetch(served.url);
assert.deepEqual(await stored.arrayBuffer(), await file.arrayBuffer());

const { items, next_cursor } = ok(await api.GET("/api/tracks", { params: { query: { limit: 1 } } }));
assert.equal(items[0]?.upload?.id, upload.id);
assert.equal(next_cursor, null);

const direct = ok(
  await api.POST("/api/uploads", { body: { filename: "direct.mp3", strategy: "direct" } }),
);
const sent = ok(
  await api.PUT("/api/uploads/{id}/content", {
    params: { path: { id: direct.id } },
    headers: { "content-type": "audio/mpeg" },
    body: "",
    bodySerializer: () => file,
  }),
);
assert.equal(sent.size, file.size);

const { error, response } = await api.POST("/api/uploads", {
  body: { filename: "notes.txt", size: 12 },
});
assert.equal(response.status, 400);
assert.equal(error?.type, "/problems/validation");
assert.ok(error?.errors?.filename?.[0], "a sentence about the field");

ok(await api.DELETE("/api/tracks/{id}", { params: { path: { id: track.id } } }));
console.log("ok  the TypeScript client created a track, uploaded, waited and read the file back");
