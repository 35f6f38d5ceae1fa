// The test of the generated Go client in scripts/check-api: an upload, the wait for its result, and an
// error.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Getenv("API_KEY")); err != nil {
		log.Fatal(err)
	}
	fmt.Println("ok  the Go client created an upload, waited and read the file back")
}

func run(ctx context.Context, url, key string) error {
	authorize := func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+key)
		return nil
	}
	api, err := NewClientWithResponses(url, WithRequestEditorFn(authorize))
	if err != nil {
		return err
	}

	// An MP3 of half a second of silence: 20 frames of MPEG 1 layer III.
	frame := make([]byte, 417)
	copy(frame, []byte{0xff, 0xfb, 0x90, 0x64})
	file := bytes.Repeat(frame, 20)

	size, contentType := int64(len(file)), "audio/mpeg"
	body := NewUpload{Filename: "so what.mp3", ContentType: &contentType, Size: &size}
	created, err := api.CreateUploadWithResponse(ctx, &CreateUploadParams{}, body)
	if err != nil {
		return err
	}
	if created.JSON201 == nil || created.JSON201.Request == nil {
		return fmt.Errorf("%s: %s", created.Status(), created.Body)
	}
	upload, signed := created.JSON201, created.JSON201.Request

	put, err := http.NewRequestWithContext(ctx, signed.Method, signed.Url, bytes.NewReader(file))
	if err != nil {
		return err
	}
	for name, value := range signed.Headers {
		put.Header.Set(name, value)
	}
	stored, err := http.DefaultClient.Do(put)
	if err != nil {
		return err
	}
	stored.Body.Close()
	if stored.StatusCode != http.StatusOK {
		return fmt.Errorf("the store responds with %s", stored.Status)
	}

	confirmed, err := api.ConfirmUploadWithResponse(ctx, upload.Id)
	if err != nil {
		return err
	}
	if confirmed.JSON200 == nil || confirmed.JSON200.Status != StatusUploaded {
		return fmt.Errorf("%s: %s", confirmed.Status(), confirmed.Body)
	}
	wait := int64(30)
	waited, err := api.GetUploadWithResponse(ctx, upload.Id, &GetUploadParams{Wait: &wait})
	if err != nil {
		return err
	}
	if waited.JSON200 == nil || waited.JSON200.Size == nil || *waited.JSON200.Size != size {
		return fmt.Errorf("%s: %s", waited.Status(), waited.Body)
	}

	redirect := false
	served, err := api.GetUploadFileWithResponse(ctx, upload.Id, &GetUploadFileParams{Redirect: &redirect})
	if err != nil {
		return err
	}
	if served.JSON200 == nil {
		return fmt.Errorf("%s: %s", served.Status(), served.Body)
	}
	read, err := http.Get(served.JSON200.Url)
	if err != nil {
		return err
	}
	defer read.Body.Close()
	if content, err := io.ReadAll(read.Body); err != nil || !bytes.Equal(content, file) {
		return fmt.Errorf("the downloaded file differs from the sent file: %d bytes, %v", len(content), err)
	}

	refused, err := api.CreateUploadWithResponse(ctx, &CreateUploadParams{}, NewUpload{Filename: "notes.txt"})
	if err != nil {
		return err
	}
	problem := refused.ApplicationproblemJSON400
	if problem == nil || problem.Type != "/problems/validation" || problem.Errors == nil {
		return fmt.Errorf("%s: %s", refused.Status(), refused.Body)
	}
	return nil
}
