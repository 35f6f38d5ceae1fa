// What scripts/check-api does with the generated client: a track, an upload that is waited
// for, and a refusal whose shape is known too.
import assert from "node:assert/strict";
import * as api from "./client";
import { client } from "./client/client.gen";

client.setConfig({ baseUrl: process.argv[2], auth: process.env.API_KEY, throwOnError: true });

// An MP3 of half a second of silence: 20 frames of MPEG 1 layer III.
const frame = new Uint8Array(417);
frame.set([0xff, 0xfb, 0x90, 0x64]);
const file = new Blob(Array.from({ length: 20 }, () => frame));

const { data: track } = await api.createTrack({
  body: { title: "So What", artist_name: "Miles Davis" },
  throwOnError: true,
});
assert.equal(track.status, "empty");

const { data: upload } = await api.createUpload({
  body: {
    track_id: track.id,
    filename: "so what.mp3",
    content_type: "audio/mpeg",
    size: file.size,
  },
  throwOnError: true,
});
const request = upload.request;
assert.ok(request, "a small file comes whole");
const { method, url, headers } = request;
const put = await fetch(url, { method, headers, body: file });
assert.ok(put.ok, `the store answers ${put.status}`);

const [{ data: waited }, { data: confirmed }] = await Promise.all([
  api.getUpload({ path: { id: upload.id }, query: { wait: 30 }, throwOnError: true }),
  api.confirmUpload({ path: { id: upload.id }, throwOnError: true }),
]);
assert.equal(waited.status, "uploaded");
assert.equal(confirmed.size, file.size);

const { data: served } = await api.getTrackFile({
  path: { id: track.id },
  query: { redirect: false },
  throwOnError: true,
});
assert.ok(served, "an address, not a redirect");
const stored = await fetch(served.url);
assert.deepEqual(await stored.arrayBuffer(), await file.arrayBuffer());

const { error, response } = await api.createUpload({
  body: { filename: "notes.txt", size: 12 },
  throwOnError: false,
});
assert.equal(response?.status, 400);
assert.equal(error?.type, "/problems/validation");
assert.ok(error?.errors?.filename?.[0], "a sentence about the field");

await api.deleteTrack({ path: { id: track.id }, throwOnError: true });
console.log("ok  the generated client created a track, uploaded, waited and read the file back");
