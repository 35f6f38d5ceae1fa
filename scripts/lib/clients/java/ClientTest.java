// The test of the generated Java client in scripts/check-api: an upload, the wait for its result, and
// an error.

import client.ApiClient;
import client.ApiException;
import client.api.UploadsApi;
import client.model.ConfirmedBy;
import client.model.NewUpload;
import client.model.SignedRequest;
import client.model.Status;
import client.model.Upload;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.util.Arrays;

public final class ClientTest {
  public static void main(String[] args) throws Exception {
    // The generated client has no method that sets the API key, so an interceptor adds the header.
    ApiClient api = new ApiClient();
    api.updateBaseUri(args[0]);
    String key = System.getenv("API_KEY");
    api.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + key));
    UploadsApi uploads = new UploadsApi(api);

    // An MP3 of half a second of silence: 20 frames of MPEG 1 layer III.
    ByteBuffer frames = ByteBuffer.allocate(20 * 417);
    for (int at = 0; at < 20 * 417; at += 417) {
      frames.putInt(at, 0xfffb9064);
    }
    byte[] file = frames.array();

    NewUpload body = new NewUpload().filename("so what.mp3").contentType("audio/mpeg").size((long) file.length);
    Upload upload = uploads.createUpload(body, null);
    check(upload.getStatus() == Status.PENDING, upload);

    SignedRequest signed = upload.getRequest();
    HttpRequest.Builder put = HttpRequest.newBuilder(URI.create(signed.getUrl()));
    signed.getHeaders().forEach(put::header);
    put.method(signed.getMethod(), HttpRequest.BodyPublishers.ofByteArray(file));
    HttpClient http = HttpClient.newHttpClient();
    int stored = http.send(put.build(), BodyHandlers.discarding()).statusCode();
    check(stored == 200, "the store responds with " + stored);

    Upload confirmed = uploads.confirmUpload(upload.getId());
    check(confirmed.getStatus() == Status.UPLOADED, confirmed);
    check(confirmed.getConfirmedBy() == ConfirmedBy.CONFIRM, confirmed);
    Upload waited = uploads.getUpload(upload.getId(), 30L);
    check(waited.getSize() == file.length, waited);

    String url = uploads.getUploadFile(upload.getId(), false).getUrl();
    byte[] read = http.send(HttpRequest.newBuilder(URI.create(url)).build(), BodyHandlers.ofByteArray()).body();
    check(Arrays.equals(read, file), "the downloaded file differs from the sent file");

    try {
      uploads.createUpload(new NewUpload().filename("notes.txt"), null);
      check(false, "a file of another type is accepted");
    } catch (ApiException refused) {
      check(refused.getCode() == 400, refused);
      check(refused.getResponseBody().contains("/problems/validation"), refused.getResponseBody());
    }
    System.out.println("ok  the Java client created an upload, waited and read the file back");
  }

  private static void check(boolean holds, Object found) {
    if (!holds) {
      throw new AssertionError(found);
    }
  }
}
