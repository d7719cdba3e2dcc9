// Command setup gives an object store the buckets and rules of expiry that a file describes, and MinIO, by its own
// interface, the users and policies as well. It changes nothing else; running it again is harmless.
//
// Usage: setup DESIRED.json SECRETS, where SECRETS is a folder with one folder per user (and one named `root`),
// each with the files `access-key` and `secret-key`. STORE_URL is the store's address.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/madmin-go/v3"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/lifecycle"
)

type desired struct {
	Buckets  []string                   `json:"buckets"`
	Policies map[string]json.RawMessage `json:"policies"`
	Users    map[string]string          `json:"users"` // user's folder of secrets -> name of the policy; MinIO alone
	Expiry   []expiry                   `json:"expiry"`
}

// What lies below prefix is forgotten so many days after it was written.
type expiry struct {
	Bucket string `json:"bucket"`
	Prefix string `json:"prefix"`
	Days   int    `json:"days"`
}

func key(secrets, user, name string) (string, error) {
	path := filepath.Join(secrets, user, name)
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	value := strings.TrimSpace(string(content))
	if len(value) < 3 || (name == "secret-key" && len(value) < 16) || strings.HasPrefix(strings.ToLower(value), "change") {
		return "", fmt.Errorf("%s is too short or a placeholder: generate the secrets first", path)
	}
	return value, nil
}

func keys(secrets, user string) (access, secret string, err error) {
	if access, err = key(secrets, user, "access-key"); err != nil {
		return "", "", err
	}
	secret, err = key(secrets, user, "secret-key")
	return access, secret, err
}

// waitUntilReady returns once the server answers an authenticated call, or with its last error after two minutes.
func waitUntilReady(ctx context.Context, store *minio.Client) error {
	deadline := time.Now().Add(2 * time.Minute)
	for {
		_, err := store.ListBuckets(ctx)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(time.Second)
	}
}

func apply(ctx context.Context, want desired, secrets string, server *url.URL) error {
	access, secret, err := keys(secrets, "root")
	if err != nil {
		return err
	}
	who, secure := credentials.NewStaticV4(access, secret, ""), server.Scheme == "https"
	store, err := minio.New(server.Host, &minio.Options{Creds: who, Secure: secure})
	if err != nil {
		return err
	}
	if err := waitUntilReady(ctx, store); err != nil {
		return fmt.Errorf("%s is not ready: %w", server, err)
	}
	if err := applyBuckets(ctx, want, store); err != nil {
		return err
	}
	if len(want.Users) == 0 && len(want.Policies) == 0 {
		return nil
	}
	admin, err := madmin.NewWithOptions(server.Host, &madmin.Options{Creds: who, Secure: secure})
	if err != nil {
		return err
	}
	return applyUsers(ctx, want, secrets, admin)
}

func applyBuckets(ctx context.Context, want desired, store *minio.Client) error {
	for _, bucket := range want.Buckets {
		there, err := store.BucketExists(ctx, bucket)
		if err == nil && !there {
			err = store.MakeBucket(ctx, bucket, minio.MakeBucketOptions{})
		}
		if err != nil {
			return fmt.Errorf("bucket %s: %w", bucket, err)
		}
		fmt.Printf("bucket %s: was there before: %t\n", bucket, there)
	}
	rules := map[string]*lifecycle.Configuration{}
	for _, each := range want.Expiry {
		if rules[each.Bucket] == nil {
			rules[each.Bucket] = lifecycle.NewConfiguration()
		}
		rules[each.Bucket].Rules = append(rules[each.Bucket].Rules, lifecycle.Rule{
			ID: "forget-" + strings.Trim(each.Prefix, "/"), Status: "Enabled",
			RuleFilter: lifecycle.Filter{Prefix: each.Prefix},
			Expiration: lifecycle.Expiration{Days: lifecycle.ExpirationDays(each.Days)},
		})
	}
	for bucket, configuration := range rules {
		if err := store.SetBucketLifecycle(ctx, bucket, configuration); err != nil {
			return fmt.Errorf("expiry in bucket %s: %w", bucket, err)
		}
		fmt.Printf("bucket %s: %d rules of expiry\n", bucket, len(configuration.Rules))
	}
	return nil
}

func applyUsers(ctx context.Context, want desired, secrets string, admin *madmin.AdminClient) error {
	for name, policy := range want.Policies {
		if err := admin.AddCannedPolicy(ctx, name, policy); err != nil {
			return fmt.Errorf("policy %s: %w", name, err)
		}
	}
	for user, policy := range want.Users {
		access, secret, err := keys(secrets, user)
		if err != nil {
			return err
		}
		if err := admin.AddUser(ctx, access, secret); err != nil {
			return fmt.Errorf("user %s: %w", access, err)
		}
		attached, err := admin.GetPolicyEntities(ctx, madmin.PolicyEntitiesQuery{Users: []string{access}})
		if err != nil {
			return fmt.Errorf("policies of user %s: %w", access, err)
		}
		surplus := []string{}
		missing := true
		for _, mapping := range attached.UserMappings {
			for _, name := range mapping.Policies {
				if name == policy {
					missing = false
				} else {
					surplus = append(surplus, name)
				}
			}
		}
		if missing {
			if _, err := admin.AttachPolicy(ctx, madmin.PolicyAssociationReq{Policies: []string{policy}, User: access}); err != nil {
				return fmt.Errorf("policy %s for user %s: %w", policy, access, err)
			}
		}
		if len(surplus) > 0 {
			if _, err := admin.DetachPolicy(ctx, madmin.PolicyAssociationReq{Policies: surplus, User: access}); err != nil {
				return fmt.Errorf("surplus policies of user %s: %w", access, err)
			}
		}
		fmt.Printf("user %s: policy %s\n", access, policy)
	}
	return nil
}

func run() error {
	if len(os.Args) != 3 {
		return fmt.Errorf("usage: setup DESIRED.json SECRETS")
	}
	server, err := url.Parse(os.Getenv("STORE_URL"))
	if err != nil || server.Host == "" {
		return fmt.Errorf("STORE_URL = %q: set it to the server's address, such as http://minio:9000", os.Getenv("STORE_URL"))
	}
	content, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	var want desired
	if err := json.Unmarshal(content, &want); err != nil {
		return fmt.Errorf("%s: %w", os.Args[1], err)
	}
	return apply(context.Background(), want, os.Args[2], server)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "setup:", err)
		os.Exit(1)
	}
}
