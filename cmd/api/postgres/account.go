package postgres

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account is who Postgres runs as: ourselves, unless we are root, as whom it refuses to run.
type account struct {
	uid, gid int
	attr     *syscall.SysProcAttr
}

// chooseAccount picks the account that owns the cluster and can reach both its files and the programs.
//
// For root it is the owner of the data directory, or nobody if that is root. Where directories above
// (such as /root) are closed to nobody, Postgres runs in a user namespace in which root's own user
// number is an ordinary one: it owns the files and has no privilege.
func chooseAccount(data, binaries string) (account, error) {
	if os.Geteuid() != 0 {
		return account{os.Geteuid(), os.Getegid(), &syscall.SysProcAttr{Setsid: true}}, nil
	}
	uid, gid, err := unprivileged(data)
	if err != nil {
		return account{}, err
	}
	closed, err := firstClosed(uid, gid, data, filepath.Join(binaries, "bin"), filepath.Join(binaries, "lib"), filepath.Join(binaries, "share"))
	if err != nil {
		return account{}, err
	}
	if closed == "" {
		return account{uid, gid, &syscall.SysProcAttr{
			Setsid:     true,
			Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
		}}, nil
	}
	attr := namespaced(uid, gid)
	if attr != nil {
		if err := probe(binaries, attr); err == nil {
			return account{0, 0, attr}, nil
		}
	}
	return account{}, fmt.Errorf("root cannot run Postgres itself, and the user number %d cannot enter %s: choose a --data and an --assets directory that every user can reach, such as below /var/lib, or run as an ordinary user", uid, closed)
}

// unprivileged gives the owner of the data directory, or nobody if root owns it.
func unprivileged(data string) (uid, gid int, err error) {
	info, err := os.Stat(data)
	if err != nil {
		return 0, 0, fmt.Errorf("look at the data directory: %w", err)
	}
	if uid, gid = owner(info); uid != 0 {
		return uid, gid, nil
	}
	const overflow = 65534 // nobody, where no list of users says otherwise
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return overflow, overflow, nil
	}
	uid, err1 := strconv.Atoi(nobody.Uid)
	gid, err2 := strconv.Atoi(nobody.Gid)
	if err1 != nil || err2 != nil || uid == 0 {
		return overflow, overflow, nil
	}
	return uid, gid, nil
}

func owner(info fs.FileInfo) (uid, gid int) {
	stat := info.Sys().(*syscall.Stat_t)
	return int(stat.Uid), int(stat.Gid)
}

// firstClosed returns the first directory on the way to any of the paths that uid may not enter, "" if none.
func firstClosed(uid, gid int, paths ...string) (string, error) {
	for _, path := range paths {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return "", fmt.Errorf("look at %s: %w", path, err)
		}
		dir := "/"
		for _, name := range strings.Split(strings.TrimPrefix(real, "/"), "/") {
			dir = filepath.Join(dir, name)
			info, err := os.Stat(dir)
			if err != nil {
				return "", fmt.Errorf("look at %s: %w", dir, err)
			}
			if !mayEnter(info, uid, gid) {
				return dir, nil
			}
		}
	}
	return "", nil
}

// mayEnter applies the one class of permission bits that counts for uid.
func mayEnter(info fs.FileInfo, uid, gid int) bool {
	fileUID, fileGID := owner(info)
	switch {
	case fileUID == uid:
		return info.Mode()&0o100 != 0
	case fileGID == gid:
		return info.Mode()&0o010 != 0
	default:
		return info.Mode()&0o001 != 0
	}
}

// probe proves that the programs start under attr.
func probe(binaries string, attr *syscall.SysProcAttr) error {
	cmd := exec.Command(filepath.Join(binaries, "bin", "postgres"), "--version")
	cmd.SysProcAttr = attr
	return cmd.Run()
}

// own gives dir and all below it to the account, if it is another's. Only root can, and only root needs to.
func (a account) own(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at the cluster: %w", err)
	}
	if uid, gid := owner(info); uid == a.uid && gid == a.gid {
		return nil
	}
	// The directory itself comes last: if this is cut short, the next start does it again.
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		return os.Lchown(path, a.uid, a.gid)
	})
	if err == nil {
		err = os.Lchown(dir, a.uid, a.gid)
	}
	if err != nil {
		return fmt.Errorf("give the cluster %s to the user number %d: %w", dir, a.uid, err)
	}
	return nil
}
