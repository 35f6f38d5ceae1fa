// The page of Uppy 6, which takes the Companion contract or a function that signs requests.
import Uppy from "@uppy/core";
import AwsS3 from "@uppy/aws-s3";
import { controlOf, fileOf, uploadWith } from "./uppy.js";

const signRequest = (base) => async (request) => {
  const response = await fetch(`${base}/companion/sign`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request),
  });
  if (!response.ok) throw new Error((await response.json()).message);
  return response.json();
};

const clients = {
  companion6: (base, file, control) =>
    uploadWith(Uppy, AwsS3, { companionEndpoint: `${base}/companion` }, file, control),
  sign6: (base, file, control) =>
    uploadWith(Uppy, AwsS3, { signRequest: signRequest(base) }, file, control),
};

window.run = (client, base, file, control) => clients[client](base, fileOf(file), controlOf(control));
window.fileOf = fileOf;
