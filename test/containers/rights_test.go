//go:build containers

package containers

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
	"github.com/testcontainers/testcontainers-go/exec"
)

const securityPage = "../../docs/security.md"

// principals are the users of the security page.
var principals = map[string]string{
	"migrate": "qunfa-migrate", "ingest": "qunfa-ingest", "sink": "qunfa-sink", "reconcile": "qunfa-reconcile", "operator": "qunfa-operator",
}

// documentedRights are the commands of the page, without their first line, which
// says where the broker is.
func documentedRights(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile(securityPage)
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "acls --allow-principal ") {
			commands = append(commands, strings.TrimSpace(line))
		}
	}
	return commands
}

// giveDocumentedRights runs the commands of the page, as they are.
func (b *broker) giveDocumentedRights(ctx context.Context, t *testing.T) {
	t.Helper()
	script := "set -e\nacls() { /opt/kafka/bin/kafka-acls.sh --bootstrap-server localhost:9194 --add \"$@\"; }\n" + strings.Join(documentedRights(t), "\n")
	code, out, err := b.container.Exec(ctx, []string{"bash", "-c", script}, exec.Multiplexed())
	if err != nil {
		t.Fatal(err)
	}
	if said, _ := io.ReadAll(out); code != 0 {
		t.Fatalf("the commands of %s: %s", securityPage, said)
	}
}

// right is an ACL in words: who, what, and on which.
type right struct{ user, operation, kind, name string }

func (r right) String() string {
	return fmt.Sprintf("%s %s %s %s", r.user, r.operation, r.kind, r.name)
}

func (r right) kinds() (kafka.ACLOperationType, kafka.ResourceType) {
	op := map[string]kafka.ACLOperationType{
		"Read": kafka.ACLOperationTypeRead, "Write": kafka.ACLOperationTypeWrite, "Create": kafka.ACLOperationTypeCreate,
		"Describe": kafka.ACLOperationTypeDescribe, "DescribeConfigs": kafka.ACLOperationTypeDescribeConfigs,
	}[r.operation]
	kind := map[string]kafka.ResourceType{"topic": kafka.ResourceTypeTopic, "group": kafka.ResourceTypeGroup}[r.kind]
	return op, kind
}

// rights lists what the broker allows.
func rights(ctx context.Context, t *testing.T, admin *kafka.Client) []right {
	t.Helper()
	res, err := admin.DescribeACLs(ctx, &kafka.DescribeACLsRequest{Filter: kafka.ACLFilter{
		ResourceTypeFilter: kafka.ResourceTypeAny, ResourcePatternTypeFilter: kafka.PatternTypeAny,
		Operation: kafka.ACLOperationTypeAny, PermissionType: kafka.ACLPermissionTypeAny,
	}})
	if err != nil || res.Error != nil {
		t.Fatal(err, res)
	}
	var all []right
	for _, r := range res.Resources {
		for _, a := range r.ACLs {
			all = append(all, right{strings.TrimPrefix(a.Principal, "User:"), a.Operation.String(), strings.ToLower(r.ResourceType.String()), r.ResourceName})
		}
	}
	return all
}

func give(ctx context.Context, t *testing.T, admin *kafka.Client, r right) {
	t.Helper()
	op, kind := r.kinds()
	res, err := admin.CreateACLs(ctx, &kafka.CreateACLsRequest{ACLs: []kafka.ACLEntry{{
		ResourceType: kind, ResourceName: r.name, ResourcePatternType: kafka.PatternTypeLiteral,
		Principal: "User:" + r.user, Host: "*", Operation: op, PermissionType: kafka.ACLPermissionTypeAllow,
	}}})
	if err != nil || res.Errors[0] != nil {
		t.Fatalf("give %s: %v, %v", r, err, res)
	}
}

func take(ctx context.Context, t *testing.T, admin *kafka.Client, r right) {
	t.Helper()
	op, kind := r.kinds()
	res, err := admin.DeleteACLs(ctx, &kafka.DeleteACLsRequest{Filters: []kafka.DeleteACLsFilter{{
		ResourceTypeFilter: kind, ResourceNameFilter: r.name, ResourcePatternTypeFilter: kafka.PatternTypeLiteral,
		PrincipalFilter: "User:" + r.user, HostFilter: "*", Operation: op, PermissionType: kafka.ACLPermissionTypeAllow,
	}}})
	if err != nil || len(res.Results[0].MatchingACLs) != 1 {
		t.Fatalf("take %s away: %v, %+v", r, err, res)
	}
}

// testRights gives the services and the operator exactly the rights of the
// security page, and everything works. With each: without any one of them
// somebody says so.
func testRights(t *testing.T, b *broker, ch clickHouse, each bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // bounds failures alone
	defer cancel()
	b.giveDocumentedRights(ctx, t)
	admin := b.admin(t)
	i := newInstallation(t, b, ch)
	without := i.without()
	all := rights(ctx, t, admin)
	names := func(rs []right) (names []string) {
		for _, r := range rs {
			names = append(names, r.String())
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	if d := cmp.Diff(names(slices.Collect(maps.Keys(without))), names(all)); d != "" {
		t.Fatalf("the rights of the page are not those of the test (-test +page):\n%s", d)
	}
	check := func(users ...string) {
		for _, r := range all {
			if !each || !slices.Contains(users, r.user) {
				continue
			}
			i.allReady(ctx, t) // the right before is back, and everybody has noticed
			take(ctx, t, admin, r)
			if t.Run("without "+r.String(), func(t *testing.T) { without[r](ctx, t) }); ctx.Err() != nil {
				t.Fatal("the time is over")
			}
			give(ctx, t, admin, r)
		}
	}
	check("qunfa-migrate") // before there are topics
	i.migrate(ctx, t)
	i.start(t)
	i.everything(ctx, t)
	check("qunfa-ingest", "qunfa-sink", "qunfa-reconcile", "qunfa-operator")
	i.allReady(ctx, t)
}
