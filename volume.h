/* Tells local file systems from shared ones: see volume.c. */
#ifndef VOLUME_H
#define VOLUME_H

#include <sys/stat.h>

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>

/* Which machines may change a file system, and whose clock gives its times. */
enum volume {
	VOLUME_LOCAL,  /* this one; its times advance in ticks of this clock */
	VOLUME_COARSE, /* this one; the steps of its times are unknown */
	VOLUME_SHARED, /* perhaps other hosts, by their own clocks */
};

/*
 * Returns the kind of fd's file system. `device` is st_dev of fd; the answer
 * for the last device is kept.
 */
enum volume volume_of(int fd, dev_t device);

/* Returns true if other hosts may change the file system of fd. */
bool volume_is_shared(int fd);

/*
 * Returns the number that identifies the file system of fd, with the inode of a
 * file, on all hosts: st_dev, or one number for all shared file systems.
 */
uint64_t volume_device(int fd, const struct stat *st);

/*
 * Makes later calls for fd return the present size, times and content, also
 * after a change by another host. On a local file system this needs no call.
 * Returns 0, or -1 with errno. errno is ESTALE if the open file no longer has a
 * name.
 */
int volume_ask(int fd);

/*
 * Does what volume_ask does for a directory. On a shared file system reads all
 * its names.
 */
int volume_ask_directory(int fd);

/*
 * Makes the next read of fd read from the server. Nothing is asked yet: size
 * and times may be out of date.
 */
void volume_forget(int fd);

/*
 * Opens the file `name` for which volume_ask succeeds. If another host has made
 * or replaced the file, waits up to three seconds until this host has noticed
 * it.
 * Returns the descriptor, or -1 with errno.
 */
int volume_open(int dir, const char *name, int flags);

/*
 * On a shared file system waits three seconds, until this host knows by which
 * names other hosts have called files before.
 */
void volume_outlast_names(int fd);

/*
 * Opens the names of an open directory for readdir, as they are now. Returns
 * NULL with errno if that fails.
 */
DIR *volume_open_names(int dir);

/*
 * Calls visit for each name of an open directory, until it returns a value that
 * is not 0. Returns that value, 0 at the end, or -1 with errno. visit may
 * rename or unlink the file.
 */
int volume_each_name(int dir, int (*visit)(void *self, const char *name),
    void *self);

#endif
