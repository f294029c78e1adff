//go:build tools

// Package zot names the program that install.sh builds, so that go.sum has all it needs.
package zot

import _ "zotregistry.io/zot/cmd/zot"
