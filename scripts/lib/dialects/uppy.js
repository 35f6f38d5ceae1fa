// Uploads one file with Uppy, for both major versions. `settings` are those of its plugin for S3.
//
// `control` is called with Uppy and the file's id after the first part or some progress.

export const MIB = 1024 * 1024;

export function uploadWith(Uppy, AwsS3, settings, file, control) {
  return new Promise((resolve) => {
    const uppy = new Uppy();
    uppy.use(AwsS3, { ...settings, shouldUseMultipart: file.size > 6 * MIB });
    const id = uppy.addFile({ name: file.name, type: file.type, data: file });
    if (control) {
      const once = () => {
        uppy.off("s3-multipart:part-uploaded", once);
        uppy.off("upload-progress", someProgress);
        control(uppy, id);
      };
      const someProgress = (_, { bytesUploaded }) => bytesUploaded > 3 * MIB && once();
      uppy.on("s3-multipart:part-uploaded", once);
      if (settings.endpoint?.endsWith("/tus/")) uppy.on("upload-progress", someProgress);
    }
    uppy.on("file-removed", () => resolve({ cancelled: true }));
    uppy.upload().then(({ successful, failed }) => {
      if (failed?.length) resolve({ error: String(failed[0].error) });
      else if (successful?.length) resolve({ url: successful[0].uploadURL, body: successful[0].response?.body });
    });
  });
}

export const pause = (uppy, id) => {
  uppy.pauseResume(id);
  setTimeout(() => uppy.pauseResume(id), 300);
};
export const cancel = (uppy, id) => uppy.removeFile(id);

// One frame of silence: MPEG 1 layer III, 128 kbit/s at 44.1 kHz.
export function mp3(size, name = "für silence.mp3") {
  const bytes = new Uint8Array(size);
  for (let at = 0; at + 417 <= size; at += 417) bytes.set([0xff, 0xfb, 0x90, 0x64], at);
  bytes.set([size & 255, (size >> 8) & 255, (size >> 16) & 255], 10);
  // The same after the page is loaded again, as a file of the disk is.
  return new File([bytes], name, { type: "audio/mpeg", lastModified: 1 });
}

export const text = (size) => new File(["not a song ".repeat(size / 11)], "song.mp3", { type: "audio/mpeg" });

const FILES = { small: () => mp3(100_000), large: () => mp3(12 * MIB), wrong: () => text(100_000),
  "wrong-large": () => text(12 * MIB) };
export const fileOf = (name) => FILES[name]();
export const controlOf = (name) => ({ pause, cancel })[name];
