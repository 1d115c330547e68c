package main

import "github.com/spf13/cobra"

// commands lists every command, in the order in which a new user meets them.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.newDemoCommand(),
		a.newConfigCommand(),
		a.newACLCommand(),
		a.newDoctorCommand(),
		a.newPlanCommand(),
		a.newRunCommand(),
		a.newHealCommand(),
		a.newLiveCommand(),
		a.newPauseCommand(),
		a.newResumeCommand(),
		a.newAckCommand(),
		a.newBreakerCommand(),
		a.newControlsCommand(),
		a.newStatusCommand(),
		a.newWhyCommand(),
		a.newIncidentsCommand(),
		a.newReportCommand(),
		a.newActionsCommand(),
		a.newAlarmsCommand(),
		a.newNotifyCommand(),
		a.newObserveCommand(),
		a.newPublishCommand(),
		a.newVersionCommand(),
	}
}
