/*
 * A model of kpopd's removals from an mbox, for spin(1): the session lock, the
 * journal, and the recovery by this or another host, on a file system that
 * several hosts share.
 *
 * tests/model/run verifies it. DESIGN (5.6) has the results, and what the model
 * leaves out.
 *
 * A process Host is all that one host does for the mailbox: one session after
 * the other, and after each session its broker, which may run a recovery. Each
 * atomic step is one system call; the comment before it names the function that
 * makes it. A process Mda delivers, a process Reader is a mail reader that
 * removes a message, and both may run on any host. The process Fault makes
 * faults, at any step:
 *
 *	kill	only the session or the recovery dies
 *	crash	all processes of a host die, and the file system may lose what
 *		they have written and not synced; the locks become free later
 *	cut	the network of a host is cut, so the lock server gives the locks
 *		of the host away, and what was not synced may be lost; the
 *		processes go on when the network is back, and do not know it
 *	power	the power of the disks fails: each cell, each size and each
 *		change of a directory that was not synced is lost or kept,
 *		independently
 *
 * A session without the spool lock has changed nothing. Its death is no other
 * than its end, so only processes that have the spool lock are killed.
 *
 * The mailbox and D are sequences of cells of three bits. A cell is a message
 * (1 to 4), zeros, or the marker.
 */

/*
 * The safeguards of kpopd, and at the end what it requires of the file system.
 * -DWITHOUT=NAME takes one out. The search must then find an error.
 */
#define SESSION_LOCK 1 /* lock_session: only one session for each mailbox */
#define SPOOL_LOCK 2 /* lock_spool: no other program changes the mailbox */
#define LOCK_CHECK 3 /* lock_spool: the session lock is still held */
#define KEPT_LOCKS 4 /* LOCK_KEEP: the broker keeps the session's locks */
#define RECOVERY_LOCK 5 /* recover_after_session: recovery has the session lock */
#define PROOF 6 /* mbox-find.c: only a message that is proven is removed */
#define SIZE_AT_QUIT 7 /* the size under the lock is not that of a cache */
#define SIZE_IN_RECOVERY 8 /* the same in a recovery */
#define JOURNAL_SEEN 9 /* redo_is_pending: a cache hides no journal */
#define JOURNAL 10 /* mbox-journal.c: a removal has a journal */
#define SYNC_DELIVERIES 11 /* step 0: fdatasync of the mailbox */
#define SYNC_JOURNAL 12 /* step 1: fsync of j.tmp */
#define SYNC_DECISION 13 /* step 2: fsync of the directory */
#define SYNC_D 14 /* step 3: fsync of the mailbox */
#define SYNC_WRITTEN 15 /* step 4: fsync of the directory */
#define SYNC_TRUNCATION 16 /* step 5: fsync of the mailbox */
#define SYNC_RECOVERY 17 /* redo_recover: fsync of the directory */
#define WITNESS 18 /* journal_match_decided: is it of this mailbox? */
#define MARKER_CHECK 19 /* journal_match_written: is it truncated? */
#define FENCE 20 /* calls on a file fail after its lock is lost */
#define OWN_NAMES 21 /* names of journals are not those of other processes */
#define JOURNAL_AT_QUIT 22 /* remove_locked: there is no other journal */
#ifndef WITHOUT
#define WITHOUT 0
#endif
#ifndef MESSAGES
#define MESSAGES 3 /* at most 4; two at the start, the others are delivered */
#endif
#ifndef FAULTS
#define FAULTS 2 /* at most */
#endif
#ifndef EXPUNGES
#define EXPUNGES 1 /* messages that a mail reader removes, at most */
#endif
#ifndef ONLY_MAIL
#define ONLY_MAIL 0 /* 1: checks only the mail, not the locks */
#endif
/*
 * With -DSETTINGS the verifier takes these values from its environment, so that
 * one verifier serves all searches.
 */
hidden byte without = WITHOUT;
hidden byte messages = MESSAGES;
hidden byte faults_most = FAULTS;
hidden byte expunges_most = EXPUNGES;
hidden byte only_mail = ONLY_MAIL;
#ifdef SETTINGS
c_code {
	static void
	read_setting(const char *name, unsigned char *value)
	{
		if (getenv(name) != NULL)
			*value = (unsigned char)atoi(getenv(name));
	}
}
#endif
#define HAS(safeguard) (without != (safeguard))

/* The cells of a mailbox or of D. */
#define ZERO 5
#define MARKER 6
#define CELL(s, i) (((s) >> (3 * (i))) & 7)
#define PUT(s, i, v) (((s) & ~(7 << (3 * (i)))) | ((v) << (3 * (i))))
#define CUT(s, n) ((s) & ((1 << (3 * (n))) - 1))
#define SIZE(s) \
	((s) == 0 -> 0 : ((s) < 8 -> 1 : ((s) < 64 -> 2 : ((s) < 512 -> 3 : 4))))
#define BIT(m) (1 << (m))

/*
 * A journal in an int (struct journal of mbox-journal.h): D, P and S, and of
 * the witness the cells before P, at P and before S. A journal without WHOLE is
 * not completely written, or damaged. MADE_BY is the host that made the file.
 */
#define D(r) CUT(r, 3)
#define P(r) (((r) >> 9) & 3)
#define S(r) (((r) >> 11) & 7)
#define BEFORE(r) (((r) >> 14) & 7)
#define FRONT(r) (((r) >> 17) & 7)
#define BACK(r) (((r) >> 20) & 7)
#define SYNCED (1 << 23)
#define WHOLE (1 << 24)
#define MADE_BY(r) (((r) >> 25) & 3)
#define BEGUN(h) ((h) << 25)
#define TAKEN_OVER(r, h) (((r) & (BEGUN(1) - 1)) | BEGUN(h))
#define NEW_SIZE(r) (P(r) + SIZE(D(r)))
/* new_byte of mbox-journal.c; 0: step 3 does not write there */
#define NEW_CELL(r, at) \
	((at) < NEW_SIZE(r) -> CELL(D(r), (at) - P(r)) : \
	    ((at) == NEW_SIZE(r) -> MARKER : 0))
/* compare_witness */
#define FITS(r, old, at) \
	(CELL(spool, at) == (old) || CELL(spool, at) == NEW_CELL(r, at))
/* hash_before */
#define FITS_BEFORE(r) (P(r) == 0 || CELL(spool, P(r) - 1) == BEFORE(r))
/* journal_match_decided returns MATCH_HERE */
#define IS_OF_MAILBOX(r) \
	(!HAS(WITNESS) || (SIZE(spool) >= S(r) && FITS_BEFORE(r) && \
	    FITS(r, FRONT(r), P(r)) && FITS(r, BACK(r), S(r) - 1)))
/* journal_match_written does not return MATCH_NONE */
#define IS_WRITTEN(r) \
	(SIZE(spool) >= NEW_SIZE(r) && FITS_BEFORE(r) && (SIZE(D(r)) == 0 || \
	    CELL(spool, NEW_SIZE(r) - 1) == CELL(D(r), SIZE(D(r)) - 1)))
/* journal_match_written returns MATCH_DONE */
#define IS_TRUNCATED(r) \
	(SIZE(spool) < S(r) || (HAS(MARKER_CHECK) && \
	    CELL(spool, NEW_SIZE(r)) != MARKER && \
	    CELL(spool, NEW_SIZE(r)) != ZERO))

/* What all hosts see: the mailbox, and the journals by their names. */
int spool = 1 | 2 << 3;
int tmp, j, cut; /* j.tmp, j, j.cut; 0: none */
/* What the disks have. */
int disk = 1 | 2 << 3;
int disk_j, disk_cut;
byte unsynced; /* cells that the host with the lock wrote and did not sync */
bool halves; /* the mailbox was truncated within a block and not synced */
/* The changes of the directory since its last fsync. */
#define RENAME_1 1 /* j.tmp to j */
#define RENAME_2 2 /* j to j.cut */
#define UNLINK 3   /* j.cut */
byte change[4];
byte changes;
int renamed; /* the journal of RENAME_1 */

/* The lock server. 0: free. */
#define MDA 7
byte session_lock, spool_lock;

/*
 * The list of a session. It is needed only where a safeguard is taken out,
 * because a marked message that is not in the mailbox is not proven. So
 * elsewhere the client may mark any messages of the mailbox at its QUIT.
 */
int list;
#define HAS_LIST (!HAS(PROOF) || !HAS(SIZE_AT_QUIT))

/* The hosts. */
#define ALIVE 0
#define KILLED 1
#define CRASHED 2
byte dead[3];
bool cut_session[3]; /* it lost the session lock without knowing it */
bool cut_spool[3];   /* it lost the spool locks without knowing it */
bool keeps[3];       /* its broker has the locks (LOCK_KEEP) */
bool in_session[3];
byte faults;

/* What must be true. The sets have one bit for each message. */
byte given = BIT(1) | BIT(2); /* delivered, and not lost by a power failure */
byte wanted; /* some client has asked to remove it */
byte removed; /* the client's answer was that it is removed */
byte next = 3; /* the next message to deliver */
byte expunges;
#define WHOLE_SPOOL 0
#define HALF_SPOOL 1   /* step 3 has begun and step 5 is not done */
#define LEFT_SPOOL 2   /* the same, and no process of the host is left */
byte half;
/* Each is set only just before an assertion that then fails. */
bool message_lost, message_twice, message_back, garbage, two_sessions,
    half_seen, not_alone, changed_unlocked;

hidden byte i, n, m, size, seen;
hidden int result;

/* Fails unless host h may write to the mailbox now. */
inline assert_locked(h)
{
	changed_unlocked = !only_mail && (spool_lock != h || session_lock != h);
	assert(!changed_unlocked);
}

/*
 * Compares the mailbox with what must be in it. The caller has the locks, and
 * there is no journal.
 */
inline check_mailbox()
{
	seen = 0;
	i = 0;
	do
	:: i < SIZE(spool) ->
		garbage = CELL(spool, i) == ZERO || CELL(spool, i) == MARKER ||
		    CELL(spool, i) == 0;
		assert(!garbage);
		message_twice = (seen & BIT(CELL(spool, i))) != 0;
		assert(!message_twice);
		seen = seen | BIT(CELL(spool, i));
		i++
	:: else -> break
	od;
	message_lost = (given & ~wanted & ~seen) != 0;
	assert(!message_lost);
	message_back = (removed & seen) != 0;
	assert(!message_back);
	/* a removal that was not decided counts as not asked for */
	if
	:: !cut_session[1] && !cut_session[2] -> wanted = wanted & ~seen
	:: else
	fi;
	half = WHOLE_SPOOL
}

/* fsync of the mailbox (journal_sync_mailbox, journal_sync_deliveries) */
inline sync_mailbox()
{
	disk = spool;
	halves = false;
	unsynced = 0
}

/* Applies the oldest change of the directory to the disk. */
inline apply(c)
{
	if
	:: c == RENAME_1 -> disk_j = renamed
	:: c == RENAME_2 ->
		if
		:: disk_j != 0 -> disk_cut = disk_j; disk_j = 0
		:: else
		fi
	:: c == UNLINK -> disk_cut = 0
	:: else
	fi
}

/* fsync of the state directory (journal_sync_state) */
inline sync_names()
{
	disk_j = j;
	disk_cut = cut;
	changes = 0;
	renamed = 0;
	change[0] = 0; change[1] = 0; change[2] = 0; change[3] = 0
}

/* Notes a change of the state directory that the disk need not have. */
inline change_names(c)
{
	if
	:: changes == 4 || (c == RENAME_1 && renamed != 0) ->
		/* the older changes have reached the disk by themselves */
		i = 0;
		do
		:: i < changes -> apply(change[i]); change[i] = 0; i++
		:: else -> break
		od;
		changes = 0;
		renamed = 0
	:: else
	fi;
	change[changes] = c;
	changes++
}

/* Sets a journal aside as rescue.* (set_journal_aside). */
inline set_aside(name)
{
	name = 0;
	sync_names()
}

/* Marks some messages of the list. */
inline mark_listed()
{
	i = 0;
	do
	:: i < SIZE(list) ->
		if
		:: marks = marks | BIT(CELL(list, i))
		:: skip
		fi;
		i++
	:: else -> break
	od
}

/* Cell k of the mailbox may be removed. */
#define MAY_REMOVE(k) \
	(!HAS_LIST || \
	    (HAS(PROOF) && (marks & BIT(CELL(result, k)))) || \
	    (!HAS(PROOF) && k < SIZE(list) && (marks & BIT(CELL(list, k)))))

/* Frees the locks of host h. */
inline free_locks(h)
{
	if
	:: session_lock == h -> session_lock = 0
	:: else
	fi;
	if
	:: spool_lock == h -> spool_lock = 0
	:: else
	fi
}

/* Ends a session or a recovery. */
inline forget(h)
{
	in_session[h] = false;
	cut_session[h] = false;
	cut_spool[h] = false;
	marks = 0;
	place = 0;
	rec = 0;
	r = 0;
	at = 0;
	extends = 0;
	aside = false;
	unlinked = false
}

proctype Host(byte h)
{
	/* Where the common steps were entered from. */
	byte place;
#define AT_LOGIN 1
#define AT_QUIT 2
#define AT_BROKER 3
	byte marks;	/* the marked messages */
	byte at;	/* cells of D that step 3 has written */
	int rec;	/* the journal that is being made */
	int r;		/* the journal that is being finished */
	byte extends;	/* the new journal adds new mail: to j (1), j.cut (2) */
	bool aside;	/* a journal was set aside */
	bool unlinked;	/* the journal was, or there was none to finish */
	bool broker;	/* the session has ended, its broker has not */

/* Calls on the spool fail after the host has lost the lock on it. */
#define SPOOL_CALL \
	if \
	:: HAS(FENCE) && cut_spool[h] -> goto failed \
	:: else \
	fi
/* The journal at this name is that of this host's process. */
#define IS_OWN(name) (name != 0 && (!HAS(OWN_NAMES) || MADE_BY(name) == h))
/* redo_is_pending */
#define IS_PENDING (tmp != 0 || j != 0 || cut != 0)

	do
	:: {
		/* lock_session; another session may have the lock */
		atomic {
			broker || session_lock == 0 || !HAS(SESSION_LOCK) ->
			if
			:: broker -> goto broker_ends
			:: else
			fi;
			session_lock = (HAS(SESSION_LOCK) -> h : 0);
			in_session[h] = true;
			two_sessions = !only_mail && in_session[1] && in_session[2] &&
			    !cut_session[1] && !cut_session[2];
			assert(!two_sessions);
			/* mbox_open: redo_is_pending */
			if
			:: IS_PENDING -> place = AT_LOGIN; goto lock_to_write
			:: IS_PENDING && !HAS(JOURNAL_SEEN)
			:: !IS_PENDING
			fi
		};
		if
		:: atomic { spool_lock == 0 || !HAS(SPOOL_LOCK) ->
			/* list_spool, under a read lock */
			if
			:: session_lock == h || !HAS(SESSION_LOCK) ->
				check_mailbox()
			:: else /* it lost the lock, and will remove nothing */
			fi;
			list = (HAS_LIST -> spool : 0) }
		:: goto transaction /* open_if_known: an index, perhaps old */
		fi;

transaction:
		/* the client is silent, then sends QUIT, or the session yields */
		if
		:: goto ended
		:: atomic {
			place = AT_QUIT;
			mark_listed() }
		fi;

lock_to_write:
		/* lock_spool: the broker keeps the locks, then all are taken */
		atomic {
			if
			:: !HAS(SPOOL_LOCK) || spool_lock == 0 || spool_lock == h ->
				spool_lock = (HAS(SPOOL_LOCK) -> h : 0);
				keeps[h] = HAS(KEPT_LOCKS);
				cut_spool[h] = false
			:: spool_lock != 0 && spool_lock != h &&
			    place != AT_BROKER -> goto released /* [IN-USE] */
			fi;
			if
			/* another host has had the session lock, and died */
			:: HAS(LOCK_CHECK) && HAS(SESSION_LOCK) &&
			    session_lock == 0 &&
			    (HAS(RECOVERY_LOCK) || place != AT_BROKER) ->
				session_lock = h;
				cut_session[h] = false
			/* another host may have the session lock by now */
			:: HAS(LOCK_CHECK) && HAS(SESSION_LOCK) &&
			    session_lock != 0 && session_lock != h &&
			    (HAS(RECOVERY_LOCK) || place != AT_BROKER) ->
				goto released
			:: else
			fi;
			if
			/* is_begun_elsewhere */
			:: place == AT_QUIT && IS_PENDING &&
			    HAS(JOURNAL_AT_QUIT) -> goto released
			:: place == AT_QUIT && !(IS_PENDING &&
			    HAS(JOURNAL_AT_QUIT)) -> goto remove
			:: else
			fi;
			/* redo_recover */
			not_alone = !only_mail && HAS(SESSION_LOCK) &&
			    session_lock != h;
			assert(!not_alone);
			unlinked = (j == 0 && cut == 0);
			/* unlink_temporaries */
			tmp = 0
		};
		atomic {
			if
			:: HAS(SYNC_RECOVERY) -> sync_names()
			:: else
			fi;
			if
			:: !HAS(OWN_NAMES) -> goto finish
			:: else
			fi
		};
take_over:
		/* take_over_removal; again if a late call has taken it away */
		atomic {
			unlinked = (j == 0 && cut == 0);
			if
			:: unlinked -> goto finish
			:: else
			fi;
			if
			:: cut != 0 -> cut = TAKEN_OVER(cut, h)
			:: else
			fi
		};
		atomic {
			if
			:: j != 0 -> j = TAKEN_OVER(j, h)
			:: else
			fi
		};
		atomic {
			if
			:: HAS(SYNC_RECOVERY) -> sync_names()
			:: else
			fi;
			goto finish
		};

remove:
		/* remove_locked, find_in_place, find_anywhere */
		atomic {
			SPOOL_CALL;
			result = (HAS(SIZE_AT_QUIT) -> spool : list);
			rec = 0;
			seen = 0;
			i = 0;
			do
			:: i < SIZE(result) ->
				if
				:: MAY_REMOVE(i) ->
					if
					:: seen == 0 ->
						rec = i << 9 |
						    CELL(result, i) << 17;
						if
						:: i > 0 -> rec = rec |
						    CELL(result, i - 1) << 14
						:: else
						fi
					:: else
					fi;
					seen = seen | BIT(CELL(result, i))
				:: !HAS_LIST || !MAY_REMOVE(i) ->
					if
					:: seen != 0 -> rec = rec |
					    CELL(result, i) << (3 * SIZE(D(rec)))
					:: else
					fi
				fi;
				i++
			:: else -> break
			od;
			if
			:: HAS(PROOF) -> marks = seen
			:: !HAS(PROOF)
			fi;
			wanted = wanted | marks;
			if
			:: seen == 0 -> goto released
			:: else -> rec = rec | SIZE(result) << 11 |
			    CELL(result, SIZE(result) - 1) << 20 |
			    WHOLE | BEGUN(h)
			fi;
			if
			:: P(rec) == 0 && D(rec) == 0 -> goto all_marked
			:: else
			fi;
			if
			:: !HAS(JOURNAL) -> r = rec; goto write
			:: else -> goto decide
			fi
		};

all_marked:
		/* truncate_without_journal */
		atomic {
			SPOOL_CALL;
			assert_locked(h);
			spool = 0
		};
		atomic {
			SPOOL_CALL;
			sync_mailbox();
			removed = removed | marks;
			goto released
		};

decide:
		/* decide_removal, extend_journal: step 0 */
		atomic {
			SPOOL_CALL;
			if
			:: HAS(SYNC_DELIVERIES) -> sync_mailbox()
			:: else
			fi
		};
		/* journal_create */
		atomic {
			if
			/* it is beside that of the host which has the lock */
			:: HAS(OWN_NAMES) && cut_spool[h]
			:: else -> tmp = BEGUN(h)
			fi
		};
		/* copy_kept, write_head: step 1 */
		atomic {
			SPOOL_CALL;
			if
			:: extends == 1 -> rec = D(r) | P(r) << 9
			:: extends == 2 -> rec = NEW_SIZE(r) << 9
			:: else
			fi;
			if
			:: extends != 0 ->
				i = S(r);
				do
				:: i < SIZE(spool) ->
					rec = rec | CELL(spool, i) <<
					    (3 * SIZE(D(rec)));
					i++
				:: else -> break
				od;
				rec = rec | SIZE(spool) << 11 |
				    CELL(spool, P(rec)) << 17 |
				    CELL(spool, SIZE(spool) - 1) << 20 |
				    (P(rec) == 0 -> 0 :
					CELL(spool, P(rec) - 1)) << 14 |
				    WHOLE | BEGUN(h)
			:: else
			fi;
			/* the name may lead to another host's file by now */
			if
			:: tmp == BEGUN(h) -> tmp = rec
			:: else ->
				if
				:: j == BEGUN(h) -> j = rec
				:: else
				fi
			fi;
			r = 0
		};
		/* journal_decide */
		atomic {
			if
			:: HAS(SYNC_JOURNAL) && tmp == rec -> tmp = tmp | SYNCED
			:: HAS(SYNC_JOURNAL) && tmp != rec && j == rec ->
				j = j | SYNCED
			:: else
			fi;
			rec = 0
		};
		/* step 2 */
		atomic {
			if
			:: !IS_OWN(tmp) -> goto undecided
			:: else
			fi;
			change_names(RENAME_1);
			j = tmp;
			renamed = tmp;
			tmp = 0
		};
		atomic {
			if
			:: HAS(SYNC_DECISION) -> sync_names()
			:: else
			fi;
			goto finish
		};

finish:
		/* redo_finish */
		atomic {
			extends = 0;
			at = 0;
			r = 0;
			if
			:: IS_OWN(j) -> r = j
			:: !IS_OWN(j) && IS_OWN(cut) -> r = cut; goto written
			:: !IS_OWN(j) && !IS_OWN(cut) && (unlinked || aside) ->
				if
				/* redo_recover: there is another one */
				:: place != AT_QUIT && (j != 0 || cut != 0) ->
					goto take_over
				:: else -> goto finished
				fi
			/* a late call of another host has taken it away */
			:: !IS_OWN(j) && !IS_OWN(cut) && !(unlinked || aside) ->
				goto lost
			fi;
			/* finish_decided */
			SPOOL_CALL;
			if
			:: (r & WHOLE) == 0 || !IS_OF_MAILBOX(r) ->
				aside = true;
				set_aside(j);
				goto finish
			:: else
			fi;
			if
			:: SIZE(spool) > S(r) && HAS(SIZE_IN_RECOVERY) ->
				extends = 1;
				goto decide
			:: else -> goto write
			fi
		};
write:
		/* write_d: step 3 */
		atomic {
			SPOOL_CALL;
			assert_locked(h);
			spool = PUT(spool, P(r) + at,
			    (at < SIZE(D(r)) -> CELL(D(r), at) : MARKER));
			unsynced = unsynced | BIT(at + P(r));
			half = HALF_SPOOL;
			at++;
			if
			:: at <= SIZE(D(r)) -> goto write
			:: else
			fi
		};
		atomic {
			SPOOL_CALL;
			if
			:: HAS(SYNC_D) -> sync_mailbox()
			:: else
			fi;
			if
			:: !HAS(JOURNAL) -> goto truncate
			:: else
			fi
		};
		/* step 4 */
		atomic {
			if
			:: !IS_OWN(j) -> goto lost
			:: else
			fi;
			change_names(RENAME_2);
			cut = j;
			j = 0
		};
		atomic {
			if
			:: HAS(SYNC_WRITTEN) -> sync_names()
			:: else
			fi;
			goto finish
		};

written:
		/* finish_written */
		atomic {
			SPOOL_CALL;
			if
			:: (r & WHOLE) == 0 || !IS_WRITTEN(r) ->
				aside = true;
				set_aside(cut);
				goto finish
			:: else
			fi;
			if
			:: IS_TRUNCATED(r) -> half = WHOLE_SPOOL; goto sync_cut
			:: else
			fi;
			if
			:: SIZE(spool) > S(r) && HAS(SIZE_IN_RECOVERY) ->
				extends = 2;
				goto decide
			:: else
			fi
		};
truncate:
		/* truncate_after_d: step 5 */
		atomic {
			SPOOL_CALL;
			assert_locked(h);
			spool = CUT(spool, NEW_SIZE(r));
			halves = NEW_SIZE(r) > 0;
			half = WHOLE_SPOOL
		};
sync_cut:
		atomic {
			SPOOL_CALL;
			if
			:: HAS(SYNC_TRUNCATION) -> sync_mailbox()
			:: else
			fi;
			r = 0;
			at = 0;
			if
			:: !HAS(JOURNAL) -> goto finished
			:: else
			fi
		};
		/* step 6 */
		atomic {
			if
			:: !IS_OWN(cut) -> goto lost
			:: else
			fi;
			change_names(UNLINK);
			cut = 0;
			unlinked = true;
			goto finish
		};

finished:
		atomic {
			unlinked = false;
			if
			:: place == AT_LOGIN ->
				SPOOL_CALL;
				check_mailbox();
				list = (HAS_LIST -> spool : 0);
				aside = false;
				place = 0;
				if
				:: spool_lock == h -> spool_lock = 0
				:: else
				fi;
				goto rest
			:: place == AT_QUIT && !aside ->
				removed = removed | marks
			:: else
			fi;
			goto released
		};
rest:
		goto transaction;

lost:
		/* redo_finish reports an error, redo_recover goes on */
		if
		:: place != AT_QUIT && HAS(OWN_NAMES) -> goto take_over
		:: else -> goto failed
		fi;

undecided:
		/* RANGES_KEPT, or an error of extend_journal */
		if
		:: extends != 0 -> goto failed
		:: else
		fi;
released:
		/* lock_spool_release, then lock_session_release */
		atomic {
			if
			:: spool_lock == h -> spool_lock = 0
			:: else
			fi;
			if
			:: place == AT_BROKER -> goto broker_left
			:: else
			fi
		};
ended:
		/* lock_session_release; its broker sees the end if it has one */
		atomic {
			if
			:: session_lock == h -> session_lock = 0
			:: else
			fi;
			broker = keeps[h];
			forget(h);
			goto next_round
		};

failed:
		/* spool_leave_locked: the session ends, the broker goes on */
		atomic {
			if
			:: place == AT_BROKER -> goto broker_left
			:: else
			fi;
			broker = true;
			forget(h);
			goto next_round
		};

broker_ends:
		/* broker_run: maildrop_unfinished, recover_after_session */
		atomic {
			if
			:: IS_PENDING && (session_lock == 0 ||
			    session_lock == h || !HAS(RECOVERY_LOCK)) ->
				if
				:: HAS(RECOVERY_LOCK) && HAS(SESSION_LOCK) ->
					session_lock = h
				:: else
				fi;
				place = AT_BROKER;
				goto lock_to_write
			:: else
			fi
		};

broker_left:
		/* lock_broker_end */
		atomic {
			free_locks(h);
			keeps[h] = false;
			broker = false;
			forget(h)
		};
next_round:
		skip
	} unless {
		atomic { dead[h] != ALIVE ->
			if
			:: dead[h] == KILLED && keeps[h] && !broker ->
				broker = true
			:: else ->
				/*
				 * The kernel or, after a crash and some time,
				 * the lock server frees the locks.
				 */
				if
				:: spool_lock == h && half == HALF_SPOOL &&
				    (broker || dead[h] == CRASHED) ->
					half = LEFT_SPOOL
				:: else
				fi;
				free_locks(h);
				keeps[h] = false;
				broker = false
			fi;
			forget(h);
			dead[h] = ALIVE
		}
	}
	od
}

/* Delivers under the spool locks, with or without fsync, on any host. */
proctype Mda()
{
	do
	:: atomic { next <= messages && (spool_lock == 0 || !HAS(SPOOL_LOCK)) &&
	    SIZE(spool) < 4 ->
		half_seen = !only_mail && half == HALF_SPOOL;
		assert(!half_seen);
		spool = PUT(spool, SIZE(spool), next);
		given = given | BIT(next);
		next++;
		if
		:: sync_mailbox()
		:: skip
		fi }
	od
}

/*
 * Removes one message under the spool locks by rewriting the mailbox, on any
 * host. Leaves a mailbox alone that a host left half written.
 */
proctype Reader()
{
	do
	:: atomic { expunges < expunges_most && (spool_lock == 0 || !HAS(SPOOL_LOCK)) &&
	    half != LEFT_SPOOL && SIZE(spool) > 0 ->
		half_seen = !only_mail && half == HALF_SPOOL;
		assert(!half_seen);
		expunges++;
		i = 0;
		do
		:: i + 1 < SIZE(spool) -> i++
		:: break
		od;
		wanted = wanted | BIT(CELL(spool, i));
		spool = CUT(spool, i) | (spool >> (3 * (i + 1))) << (3 * i);
		sync_mailbox() }
	od
}

/*
 * Decides what remains of the changes that were not synced. If all is false,
 * only those of the host that has the spool locked are in doubt. Mail that an
 * MDA appended is on other hosts then.
 */
inline lose(all)
{
	n = SIZE(spool);
	m = SIZE(disk);
	size = n;
	if
	:: n > m && all ->
		size = m;
		do
		:: size < n -> size++
		:: break
		od
	:: n < m && all ->
		if
		:: size = n
		:: size = m
		fi
	:: else
	fi;
	result = 0;
	i = 0;
	do
	:: i < size ->
		if
		:: i >= n -> result = PUT(result, i, CELL(disk, i))
		:: i >= n && halves -> result = PUT(result, i, ZERO)
		:: i < n -> result = PUT(result, i, CELL(spool, i))
		:: i < n && i < m && CELL(spool, i) != CELL(disk, i) &&
		    (all || (unsynced & BIT(i))) ->
			result = PUT(result, i, CELL(disk, i))
		fi;
		i++
	:: else -> break
	od;
	unsynced = 0
}

proctype Fault()
{
	byte h;

	do
	:: atomic { faults < faults_most ->
		faults++;
		if
		:: h = 1
		:: h = 2
		fi;
		if
		:: dead[h] == ALIVE && (spool_lock == h || cut_spool[h] ||
		    session_lock == h) ->
			if
			:: spool_lock == h || cut_spool[h] -> dead[h] = KILLED
			:: spool_lock == h || cut_spool[h] ->
				dead[h] = CRASHED;
				if
				:: spool_lock == h -> lose(false);
					spool = result
				:: else
				fi;
				if
				:: MADE_BY(tmp) == h && (tmp & SYNCED) == 0 ->
					tmp = BEGUN(h)
				:: skip
				fi;
				if
				:: MADE_BY(j) == h && (j & SYNCED) == 0 ->
					j = BEGUN(h)
				:: skip
				fi
			:: session_lock == h || spool_lock == h -> /* cut */
				if
				:: spool_lock == h ->
					lose(false);
					spool = result;
					spool_lock = 0;
					cut_spool[h] = true;
					if
					:: half == HALF_SPOOL ->
						half = LEFT_SPOOL
					:: else
					fi
				:: else
				fi;
				if
				:: session_lock == h ->
					session_lock = 0;
					cut_session[h] = true
				:: else
				fi
			fi
		:: else
		fi;
		h = 0 }
	:: atomic { faults < faults_most ->
		/* power */
		faults++;
		lose(true);
		/* unsynced mail of an MDA may be lost */
		seen = 0;
		i = 0;
		do
		:: i < SIZE(result) -> seen = seen | BIT(CELL(result, i)); i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < SIZE(disk) -> seen = seen | BIT(CELL(disk, i)); i++
		:: else -> break
		od;
		given = given & seen;
		spool = result;
		disk = result;
		halves = false;
		/* each change of the directory reached the disk or not */
		n = 0;
		do
		:: n < changes ->
			if
			:: apply(change[n])
			:: skip
			fi;
			change[n] = 0;
			n++
		:: else -> break
		od;
		changes = 0;
		renamed = 0;
		if
		:: disk_j != 0 && (disk_j & SYNCED) == 0 -> disk_j = BEGUN(1)
		:: disk_j == 0 || (disk_j & WHOLE) ->
			disk_j = (disk_j == 0 -> 0 : disk_j | SYNCED)
		fi;
		if
		:: disk_cut != 0 && (disk_cut & SYNCED) == 0 ->
			disk_cut = BEGUN(1)
		:: disk_cut == 0 || (disk_cut & WHOLE) ->
			disk_cut = (disk_cut == 0 -> 0 : disk_cut | SYNCED)
		fi;
		j = disk_j;
		cut = disk_cut;
		tmp = (tmp == 0 -> 0 : BEGUN(1));
		half = (j != 0 || cut != 0 -> LEFT_SPOOL : half);
		dead[1] = CRASHED;
		dead[2] = CRASHED }
	od
}

init {
	atomic {
#ifdef SETTINGS
		c_code {
			read_setting("WITHOUT", &without);
			read_setting("MESSAGES", &messages);
			read_setting("FAULTS", &faults_most);
			read_setting("EXPUNGES", &expunges_most);
			read_setting("ONLY_MAIL", &only_mail);
		};
#endif
		run Mda();
		run Reader();
		run Fault();
		run Host(1);
		run Host(2)
	}
}
