// Uploads one file with tus-js-client.
//
// `control` decides what happens after the first chunk: "pause" stops and soon continues,
// "leave" stops as if the page were closed, "cancel" deletes the upload.
import * as tus from "tus-js-client";

const CHUNK = 3_000_000;

export const uploadTus = (base, file, control, settings = {}) => new Promise((resolve) => {
  const upload = new tus.Upload(file, {
    endpoint: `${base}/tus/`,
    metadata: { filename: file.name, filetype: file.type },
    chunkSize: control ? CHUNK : Infinity,
    retryDelays: Array(20).fill(200),
    ...settings,
    onError: (error) => resolve({ error: error.originalResponse?.getBody() || String(error) }),
    onSuccess: () => resolve({ id: upload.url.split("/").pop() }),
    onChunkComplete: async () => {
      const now = control;
      control = null;
      if (now === "pause") {
        await upload.abort();
        setTimeout(() => upload.start(), 300);
      } else if (now === "leave") {
        await upload.abort();
        resolve({ left: true });
      } else if (now === "cancel") {
        await upload.abort(true);
        resolve({ cancelled: true });
      }
    },
  });
  upload.findPreviousUploads().then(([previous]) => {
    if (previous) upload.resumeFromPreviousUpload(previous);
    upload.start();
  });
});
