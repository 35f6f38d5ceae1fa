// The page with the clients that can be used together with Uppy 5.
import { DirectUpload } from "@rails/activestorage";
import Uppy from "@uppy/core";
import AwsS3 from "@uppy/aws-s3";
import Retriever from "@uppy/golden-retriever";
import S3FileFieldClient from "django-s3-file-field";
import Dropzone from "dropzone";
import * as FilePond from "filepond";
import { fileOf } from "./files.js";
import { runUppy } from "./uppy.js";

const clients = {
  companion5: (base, file, control) =>
    runUppy(Uppy, AwsS3, Retriever, { endpoint: `${base}/companion` }, file, control),
  activestorage: (base, file) => new Promise((resolve) => {
    const upload = new DirectUpload(file, `${base}/activestorage/direct_uploads`);
    upload.create((error, blob) => resolve(error ? { error: String(error) } : { id: blob.signed_id }));
  }),
  s3ff: async (base, file) => {
    const client = new S3FileFieldClient({ baseUrl: `${base}/s3ff` });
    try {
      return { id: await client.uploadFile(file, "songs.Song.file") };
    } catch (error) {
      return { error: error.response?.data?.message ?? String(error) };
    }
  },
  dropzone: (base, file, control) => new Promise((resolve) => {
    const form = document.createElement("div");
    const zone = new Dropzone(form, {
      url: `${base}/form`, chunking: control === "chunks", chunkSize: 1_000_000, maxFilesize: 100,
    });
    zone.on("success", (_, upload) => resolve({ id: upload.id }));
    zone.on("error", (_, problem) => resolve({ error: problem.error ?? String(problem) }));
    zone.addFile(file);
  }),
  filepond: (base, file, control) => new Promise((resolve) => {
    const pond = FilePond.create(document.body.appendChild(document.createElement("input")), {
      server: { url: `${base}/filepond`, process: { onerror: (sentence) => sentence } },
      chunkUploads: control === "chunks", chunkSize: 5_000_000,
    });
    const failed = (error) => resolve({ error: String(error.body ?? error) });
    pond.on("error", failed);
    pond.on("processfile", (error, item) => {
      if (error) failed(error);
      else if (control === "cancel") pond.removeFile(item, { revert: true });
      else resolve({ id: item.serverId });
    });
    pond.on("processfilerevert", () => resolve({ cancelled: true }));
    pond.addFile(file);
  }),
};

// Restores a file by the id that the page stored before a reload.
window.restore = (base, id) => new Promise((resolve) => {
  const pond = FilePond.create(document.body.appendChild(document.createElement("input")), {
    server: { url: `${base}/filepond` }, files: [{ source: id, options: { type: "limbo" } }],
  });
  pond.on("error", (error) => resolve({ error: String(error.body ?? error) }));
  pond.on("addfile", (error, { file }) => resolve({ error, name: file.name, size: file.size }));
});

window.run = (client, base, file, control) => clients[client](base, fileOf(file), control);
window.fileOf = fileOf;
