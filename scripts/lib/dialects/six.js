// The page with Uppy 6 (by Companion's API, by a function that signs requests, or by tus) and tus-js-client.
import Uppy from "@uppy/core";
import AwsS3 from "@uppy/aws-s3";
import Retriever from "@uppy/golden-retriever";
import Tus from "@uppy/tus";
import { fileOf } from "./files.js";
import { uploadTus } from "./tus.js";
import { runUppy } from "./uppy.js";

const signRequest = (base) => async (request) => {
  const response = await fetch(`${base}/companion/sign`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request),
  });
  if (!response.ok) throw new Error((await response.json()).message);
  return response.json();
};

const clients = {
  companion6: (base, file, control) =>
    runUppy(Uppy, AwsS3, Retriever, { companionEndpoint: `${base}/companion` }, file, control),
  sign6: (base, file, control) =>
    runUppy(Uppy, AwsS3, Retriever, { signRequest: signRequest(base) }, file, control),
  tus: uploadTus,
  uppytus: (base, file, control) =>
    runUppy(Uppy, Tus, Retriever, { endpoint: `${base}/tus/`, chunkSize: control ? 3_000_000 : Infinity }, file, control),
};

window.run = (client, base, file, control) =>
  clients[client](base, fileOf(file), control);
window.fileOf = fileOf;
