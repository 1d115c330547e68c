package remediation

import (
	"context"
	"errors"

	"dcshealer/policies"
)

func (m *Machine) planEvict(ctx context.Context, l look, r request) *policies.Plan { return nil }

func (m *Machine) evict(ctx context.Context, l look, p *policies.Plan, req request, rc *recorder) result {
	return result{outcome: policies.OutcomeFailed, err: errors.New("not built")}
}
